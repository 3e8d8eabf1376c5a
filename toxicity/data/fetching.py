"""Files of other machines, fetched in parts: several at a time, each tried again, and none of two versions."""

from __future__ import annotations

import logging
import random
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from fsspec import AbstractFileSystem
from fsspec.asyn import AsyncFileSystem
from huggingface_hub import HfFileSystem

from toxicity.core.disk import is_full_disk
from toxicity.core.errors import RequestError
from toxicity.data.storage import access_errors_explained, is_web, reason_of, without_credentials

# What is in memory at a time is their product. A line that breaks often gets smaller parts.
PART_BYTES, SMALLEST_PART = 8 * 2**20, 2**16
PARTS_AT_ONCE = 8
# Seconds between tries, at most; some clients try a few times themselves within each.
WAITS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
SECONDS_UNTIL_LEFT = 0.2
SECONDS_BETWEEN_ANSWERS = 1.1  # web servers tell times in whole seconds

# Names under which file systems report a digest of a file's content, and the time of its last change.
DIGEST_KEYS = ("blob_id", "ETag", "etag", "md5Hash", "content_md5", "Content-MD5", "Digest", "CRC")
TIME_KEYS = ("mtime", "LastModified", "Last-Modified", "last_modified", "modified")

# What the next try would raise, too.
LASTING = (
    *(FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, ImportError, NotImplementedError),
    *(RequestError, ValueError, TypeError, LookupError, zipfile.BadZipFile, zlib.error),
)
PASSING_STATUS = (408, 425, 429)  # besides 500 and up

T = TypeVar("T")
# Set when nobody waits any more for what a thread with this context fetches.
_LEFT: ContextVar[threading.Event | None] = ContextVar("left", default=None)

logger = logging.getLogger(__name__)


class RangesIgnored(ValueError):
    """A server sent the whole file instead of the part that was asked for."""


class Download(NamedTuple):
    """A file that is to be fetched."""

    files: AbstractFileSystem
    path: str  # in that file system
    copy: Path  # where to write it
    address: str  # what it is called in messages
    bytes: int | None  # its size; None if unknown
    version: str | None  # one of `versions_of` its description; None if unknown


class Left(Exception):
    """Nobody waits for the file any more."""


@contextmanager
def fetching_ends_with_block() -> Iterator[None]:
    """Break off, when the block is left, what threads with a copy of its context fetch, as nobody waits for it."""
    left = threading.Event()
    before = _LEFT.set(left)
    try:
        yield
    finally:
        left.set()
        _LEFT.reset(before)


def fetch(downloads: Sequence[Download]) -> None:
    """Write copies of files, all of them complete, and each as it was when it was listed.

    They come in parts of `PART_BYTES`, `PARTS_AT_ONCE` of them at a time, and of a part that breaks off the rest is
    fetched again. Whole, and one after the other, come files of unknown size, those of servers that know no ranges, and
    those of other file systems than object stores, the Hub and web servers.

    Raises:
        RequestError: if a file cannot be fetched, or was changed since it was listed.
    """
    in_parts = [download for download in downloads if _comes_in_parts(download)]
    whole = [download for download in downloads if not _comes_in_parts(download)]
    stopped = threading.Event()
    with ThreadPoolExecutor(PARTS_AT_ONCE, thread_name_prefix="fetch") as pool:
        try:
            parts = [
                (download, pool.submit(_fetch_part, download, start, stopped.wait))
                for download in map(_made_room_for, in_parts)
                for start in range(0, download.bytes, PART_BYTES)
            ]
            without_ranges = {download.copy: download for download, part in parts if not _awaited(part)}
            checks = [pool.submit(_refuse_changed, download) for download in in_parts]
            for download in (*without_ranges.values(), *whole):
                _fetch_whole(download)
            for check in checks:
                check.result()
        except BaseException:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _awaited(part: Future[bool]) -> bool:
    left = _LEFT.get() or threading.Event()
    while not left.is_set():
        if wait([part], SECONDS_UNTIL_LEFT).done:
            return part.result()
    raise Left


def retried(
    call: Callable[[], T], address: str, tries: int = len(WAITS), pause: Callable[[float], object] = time.sleep
) -> T:
    """The value of a call of a server, tried again after an error that may pass.

    Args:
        call: what to do.
        address: what it is about, for the log.
        tries: how many more there are after the first. Before each come the seconds of `WAITS`, less a random part of
            up to a half of them, so that many that failed together do not come again together.
        pause: waits that many seconds; a true value of it ends the tries.

    Raises:
        Exception: what the last try raised, or the first that would be raised ever again.
    """
    for longest in (*WAITS[:tries], None):
        try:
            return call()
        except Exception as error:
            if longest is None or not may_pass(error):
                raise
            seconds = longest * random.uniform(0.5, 1)
            logger.warning(
                f"{without_credentials(address)}: {type(error).__name__}: {reason_of(error)} "
                f"Trying again in {seconds:.1f} s."
            )
            if pause(seconds):
                raise
    raise AssertionError("the last try returns or raises")


def may_pass(error: Exception) -> bool:
    """Whether the same call might succeed a little later."""
    if isinstance(error, LASTING) or is_full_disk(error):
        return False
    # gcsfs has no number for this, and botocore none for that.
    if str(error).startswith("Forbidden") or "Credentials" in type(error).__name__:
        return False
    status = status_of(error)
    return status is None or status >= 500 or status in PASSING_STATUS


def status_of(error: BaseException | None) -> int | None:
    """The HTTP status that a client's error stands for, wherever that client keeps it; None if there is none."""
    response = getattr(error, "response", None)  # of the client of the Hub
    of_cause = getattr(getattr(error, "__cause__", None), "response", None)  # botocore's, in the errors of s3fs
    found = [getattr(error, "status", None), getattr(response, "status_code", None)]
    if isinstance(of_cause, dict):
        found.append(of_cause.get("ResponseMetadata", {}).get("HTTPStatusCode"))
    if type(error).__name__ == "HttpError":  # of gcsfs, which need not be installed
        found.append(error.code)
    return next((status for status in found if isinstance(status, int)), None)


def versions_of(info: dict[str, Any]) -> list[str]:
    """What changes with a file's content, of its description by a file system: digests first, then times."""
    return [str(info[key]) for key in (*DIGEST_KEYS, *TIME_KEYS) if info.get(key)]


def _comes_in_parts(download: Download) -> bool:
    # Some servers tell 0 for a page that they make when it is asked for.
    return bool(download.bytes) and isinstance(download.files, AsyncFileSystem | HfFileSystem)


def _made_room_for(download: Download) -> Download:
    """The same download, after its copy got the size that its parts need to be written in any order."""
    with access_errors_explained(download.address, download.copy), download.copy.open("wb") as copy:
        copy.truncate(download.bytes)
    return download


def _fetch_part(download: Download, start: int, pause: Callable[[float], bool]) -> bool:
    """Write the part of a file that begins with byte `start`; returns whether the server knows parts of files."""
    end = min(start + PART_BYTES, download.bytes)
    asked = end - start  # fewer after each request that breaks off

    def read() -> bytes:
        nonlocal asked
        size, asked = min(asked, end - start), max(asked // 2, SMALLEST_PART)
        content = _range(download, start, start + size)
        if len(content) > size:
            raise RangesIgnored
        if len(content) < size:  # the rest of another version, or no part of the file at all
            _refuse_changed(download)
            raise ConnectionError(f"{len(content):,} of {size:,} bytes came.")
        asked = size
        return content

    with access_errors_explained(download.address, download.copy), download.copy.open("r+b") as copy:
        copy.seek(start)
        try:
            while start < end:
                content = retried(read, download.address, pause=pause)
                copy.write(content)
                start += len(content)
        except RangesIgnored:
            return False
        except Exception as error:
            if status_of(error) in (412, 416):  # not this version; not as many bytes
                _refuse_changed(download)
            raise
        return True


def _range(download: Download, start: int, end: int) -> bytes:
    files, path = download.files, download.path
    if not is_web(files) and not isinstance(files, HfFileSystem):
        return files.cat_file(path, start=start, end=end)
    # Their `cat_file` would take in more: what is read ahead, or all that a server sends which knows no ranges.
    options: dict[str, Any] = {}
    size = download.bytes
    if is_web(files):
        # One byte more than it told that there are would come if it told wrong.
        size, end = size + 1, end + (end == size)
        # A part of what was compressed on the way would be no part of the file.
        options["headers"] = files.kwargs.get("headers", {}) | {"Accept-Encoding": "identity"}
    try:
        with files.open(path, "rb", PART_BYTES, cache_type="none", size=size, **options) as opened:
            opened.seek(start)
            return opened.read(end - start)
    except ValueError as error:  # of fsspec, to whom a server sent the whole file
        raise RangesIgnored from error


def _fetch_whole(download: Download) -> None:
    def get() -> None:
        download.files.get_file(download.path, str(download.copy))
        came = download.copy.stat().st_size
        if download.bytes and came != download.bytes:
            _refuse_changed(download)
            raise ConnectionError(f"it was cut off: {came:,} of {download.bytes:,} bytes came.")

    with access_errors_explained(download.address, download.copy):
        retried(get, download.address)
        _refuse_changed(download)


def _refuse_changed(download: Download) -> None:
    """Refuse a file that is another one than it was when it was listed, as its copy may hold parts of both."""
    size, versions = _now(download)
    if None not in (size, download.bytes) and size != download.bytes:
        raise _changed(download)
    if versions and download.version is not None and download.version not in versions:
        if is_web(download.files):
            # Some servers make up another version for each answer, such as the time of that answer.
            time.sleep(SECONDS_BETWEEN_ANSWERS)
            if _now(download)[1] != versions:
                return
        raise _changed(download)


def _changed(download: Download) -> RequestError:
    return RequestError(f"{download.address} was changed since it was listed: run this again.")


def _now(download: Download) -> tuple[int | None, list[str]]:
    """The size and the versions that the file has now."""
    with access_errors_explained(download.address):
        info = retried(lambda: _info_now(download.files, download.path), download.address)
    return info.get("size"), versions_of(info)


def _info_now(files: AbstractFileSystem, path: str) -> dict[str, Any]:
    """What a file system says of a file, and not what it remembers from when it listed the folder."""
    if isinstance(files, HfFileSystem):
        return files.info(path, refresh=True, expand_info=True)  # one call; the folder would be listed otherwise
    files.invalidate_cache(path)
    return files.info(path)
