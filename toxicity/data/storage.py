"""File systems by address, and their errors in a sentence, without the credentials that an address may hold."""

from __future__ import annotations

import functools
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from toxicity.core.disk import is_full_disk
from toxicity.core.errors import RequestError, one_line

OBJECT_STORES = ("s3", "s3a", "gs", "gcs")
CONNECT_SECONDS, SILENCE_SECONDS = 30, 60

# It would print a traceback of each error that is explained here.
logging.getLogger("gcsfs").setLevel(logging.CRITICAL)


def located(address: str) -> tuple[AbstractFileSystem, str]:
    """The file system of an address, and the path there. What is there by that very name is a path and no URL.

    Raises:
        RequestError: if the package for it is not installed, or the address of an object store holds a password.
    """
    if os.path.lexists(address):
        return LocalFileSystem(), str(Path(address).absolute())
    if "://" not in address:
        return fsspec.url_to_fs(address)
    bound_waits()
    store = re.search(rf"(?:^|::)({'|'.join(OBJECT_STORES)})://([^/:@]*:[^/@]*@)?", address)
    if store and store[2]:
        raise RequestError(
            f"{without_credentials(address)} is to be named without a key: set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY for s3://, or GOOGLE_APPLICATION_CREDENTIALS for gs://."
        )
    try:
        return fsspec.url_to_fs(address)
    except ImportError as error:
        if not store:
            raise
        raise RequestError(
            f"{without_credentials(address)} needs a package that is not installed: "
            "pip install -r requirements-cloud.txt"
        ) from error


def is_web(files: AbstractFileSystem) -> bool:
    """Whether files lie on web servers; asked by name, as the module of that file system takes long to import."""
    return "https" in files.protocol


@functools.cache
def bound_waits() -> None:
    """Let no server be waited for in vain, and none be cut off that is slow, unless the user's settings say so.

    By itself, aiohttp breaks off whatever takes five minutes, and `gcsfs` waits for ever.
    """
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS)
    options = fsspec.config.conf
    if not any("client_kwargs" in options.get(protocol, {}) for protocol in ("http", "https")):
        options.setdefault("https", {})["client_kwargs"] = {"timeout": timeout}
    if not any("requests_timeout" in options.get(protocol, {}) for protocol in ("gs", "gcs")):
        options.setdefault("gs", {})["requests_timeout"] = timeout


def without_credentials(address: str) -> str:
    """An address, or a message with addresses in it, without what may be a credential: user, password and query."""
    # Of a web server all that follows a question mark; elsewhere that may belong to a pattern. A quote or parenthesis
    # ends it where a word ends; within one it is of the query, as in `?name=a(1).csv&token=1`.
    query = r"(https?://[^\s?'\"]*|\w+://[^\s?'\"]*(?=\?[^\s'\"?]*=))\?(?:[^\s'\")]|['\")](?=[^\s,)]))*"
    without_query = re.sub(query, r"\1", address)
    # In front of the @ of other file systems, as in abfs://CONTAINER@ACCOUNT, stands a name, unless it has a colon.
    return re.sub(r"((?:https?|ftps?|sftp|ssh)://)[^/\s]+@|(\w+://)[^/\s@:]*:[^/\s]*@", r"\1\2", without_query)


def without_query(path: str) -> str:
    """The path of a file on a web server without the query and fragment of its URL; any other path as it is."""
    return re.sub(r"[?#].*", "", path) if path.startswith(("http://", "https://")) else path


@contextmanager
def access_errors_explained(address: str, copy: Path | None = None) -> Iterator[None]:
    """Turn all errors of reaching an address, and of writing `copy`, into `RequestError`."""
    try:
        yield
    except RequestError:
        raise
    except Exception as error:  # the type depends on the file system, its client and the network
        if copy is not None and isinstance(error, OSError) and error.filename == str(copy):
            raise no_place(copy.parent, error) from error
        # A disk fills up while the copy is written; the file itself is only read.
        if copy is not None and is_full_disk(error):
            raise no_place(copy.parent, error) from error
        advice = "Check the address, your right to read it, and the network."
        if type(error).__name__ == "NoCredentialsError":  # of botocore, which need not be installed
            advice = (
                "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; for a bucket that is open to all, "
                "FSSPEC_S3_ANON=true."
            )
        raise RequestError(
            f"cannot reach {without_credentials(address)}: {type(error).__name__}: {reason_of(error)} {advice}"
        ) from error


def reason_of(error: BaseException) -> str:
    """The message of a client's error on one line, without credentials."""
    # First, as half a credential is one.
    return without_credentials(" ".join(str(error).split()))[:200]


def no_place(folder: Path, why: Exception | str) -> RequestError:
    """The refusal to keep a temporary copy in a folder that may not be written to, or has no room."""
    reason = why if isinstance(why, str) else getattr(why, "strerror", None) or one_line(why)
    return RequestError(
        f"cannot keep a temporary copy in {folder}: {reason}. Make room there, or name another folder in TMPDIR."
    )
