"""A file system that is not this machine's."""

import fsspec
import pytest


@pytest.fixture
def memory():
    files = fsspec.filesystem("memory")
    yield files
    files.store.clear()
