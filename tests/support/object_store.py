"""A server of S3 on this machine, with which tests stand in for an object store."""

import logging
import os
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest
from file_server import FileServer, file_server

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "AKIAWHOREADSTHIS", "AWS_SECRET_ACCESS_KEY": "never-to-be-shown"}


@contextmanager
def s3_server() -> Iterator[dict[str, str]]:
    """Serve an empty S3; the value is the environment in which `s3://` addresses lead there, in any process."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        # What the servers of this process hold is common to them.
        urllib.request.urlopen(urllib.request.Request(f"{url}/moto-api/reset", method="POST")).close()
        yield CREDENTIALS | {"AWS_ENDPOINT_URL": url, "AWS_DEFAULT_REGION": "us-east-1"}
    finally:
        server.stop()


@contextmanager
def gs_server() -> Iterator[FileServer]:
    """Serve the objects `files` of gs://, by `/BUCKET/NAME`, to this process."""
    import fsspec

    files = fsspec.get_filesystem_class("gs")
    with file_server() as server, patch.dict(os.environ, STORAGE_EMULATOR_HOST=server.url):
        files.clear_instance_cache()
        yield server
        files.clear_instance_cache()


@contextmanager
def s3_files(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The file system of such a server, with an empty `bucket`, to which `s3://` addresses lead meanwhile."""
    s3fs = pytest.importorskip("s3fs", reason="the extra `cloud` is not installed")
    with s3_server() as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        files = s3fs.S3FileSystem()
        files.mkdir("bucket")
        yield files
        s3fs.S3FileSystem.clear_instance_cache()
