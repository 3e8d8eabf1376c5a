"""File systems that are not this machine's."""

import fsspec
import pytest
from file_server import file_server
from object_store import gs_server

from toxicity.data import fetching


@pytest.fixture(autouse=True)
def no_waits(monkeypatch):
    """What fails is tried again at once."""
    monkeypatch.setattr(fetching, "WAITS", (0.0,) * len(fetching.WAITS))
    monkeypatch.setattr(fetching, "SECONDS_BETWEEN_ANSWERS", 0.0)


@pytest.fixture
def memory():
    files = fsspec.filesystem("memory")
    yield files
    files.store.clear()


@pytest.fixture
def server():
    """A web server of `server.files` that fails as it is told."""
    with file_server() as server:
        yield server


@pytest.fixture
def gs():
    """A server of the objects `gs.files` of gs://, by `/BUCKET/NAME`, that fails as it is told."""
    pytest.importorskip("gcsfs", reason="the extra `cloud` is not installed")
    with gs_server() as server:
        yield server
