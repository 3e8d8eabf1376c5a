"""Files as paths on this machine while they are read: local ones as they are, others as temporary copies."""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock, Timeout
from fsspec.implementations.local import LocalFileSystem

from toxicity.core.errors import RequestError
from toxicity.core.files import name_as_text
from toxicity.data.addresses import DataFile
from toxicity.data.fetching import Download, fetch, versions_of
from toxicity.data.storage import access_errors_explained, located, no_place, without_query

# The folders of temporary copies in TMPDIR.
COPIES, LOCK, YOUNG_SECONDS = "toxicity-copies-", ".lock", 60.0


@contextmanager
def local_copy(file: DataFile) -> Iterator[Path]:
    """The path of a local file, or of a temporary copy of a remote one, as of `local_copies`."""
    with local_copies([file]) as (path,):
        yield path


@contextmanager
def local_copies(files: Sequence[DataFile]) -> Iterator[list[Path]]:
    """The paths of local files, and of temporary copies of remote ones.

    The copies are complete because reading parquet and zip files needs random access, some files are read twice, and
    what is read slowly, while it is scored, would keep a connection open for hours. Where a refusal in the block names
    a copy, it is made to name the address. A local file whose name is not UTF-8, which Arrow cannot open, comes by a
    temporary link.

    Raises:
        RequestError: if a file cannot be fetched completely, was changed since it was listed, or there is no room for
            the copies.
    """
    with ExitStack() as stack:
        folder: Path | None = None
        paths: list[Path] = []
        downloads: list[Download] = []
        for number, file in enumerate(files):
            with access_errors_explained(file.address):
                system, path = located(file.location or file.address)
            is_local = isinstance(system, LocalFileSystem)
            if is_local:
                _refuse_another(file, system, path)
            if is_local and _is_text(path):
                paths.append(Path(path))
                continue
            folder = folder or stack.enter_context(_temporary_folder())
            name = PurePosixPath(without_query(path)).name
            copy = folder / str(number) / name_as_text(name)
            with access_errors_explained(file.address, copy):
                copy.parent.mkdir()
                if is_local:
                    copy.symlink_to(path)
            paths.append(copy)
            if not is_local:
                downloads.append(Download(system, path, copy, file.address, file.bytes, file.version))
        if downloads:
            _require_room(folder.parent, downloads)
            fetch(downloads)
        try:
            yield paths
        except RequestError as error:
            told = str(error)
            for path, file in zip(paths, files, strict=True):
                told = told.replace(str(path), file.address)
            if told == str(error):
                raise
            raise RequestError(told) from error


def _refuse_another(file: DataFile, system: LocalFileSystem, path: str) -> None:
    now: dict[str, Any] = {}
    with access_errors_explained(file.address), suppress(FileNotFoundError):
        now = system.info(path)
    if file.bytes not in (None, now.get("size")) or file.version not in (None, *versions_of(now)):
        raise RequestError(
            f"{file.address} is not the file that was listed: it was changed, and this can be run again, or it is on "
            "another machine, and belongs in a folder that all machines share, or an object store."
        )


def _require_room(folder: Path, downloads: Sequence[Download]) -> None:
    """Refuse copies that the disk has no room for, before it is full and other programs fail, too."""
    needed, free = sum(download.bytes or 0 for download in downloads), shutil.disk_usage(folder).free
    if needed > free:
        what = f"{downloads[0].address} takes" if len(downloads) == 1 else f"{len(downloads):,} files take"
        raise no_place(folder, f"{what} {needed / 2**20:,.1f} MiB, and {free / 2**20:,.1f} MiB are free")


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """A folder for copies; it is locked, so that others can tell that its process is alive."""
    try:
        parent = Path(tempfile.gettempdir())
        _remove_left_folders(parent)
        folder = tempfile.TemporaryDirectory(prefix=COPIES, ignore_cleanup_errors=True)
    except OSError as error:
        raise no_place(Path(os.environ.get("TMPDIR", "/tmp")), error) from error
    with folder as name:
        lock = FileLock(Path(name) / LOCK)
        with suppress(OSError, NotImplementedError):  # of a file system without locks
            lock.acquire(blocking=False)
        try:
            yield Path(name)
        finally:
            lock.release()


@functools.cache
def _remove_left_folders(parent: Path) -> None:
    """Remove the copies of processes that were killed, as nobody else would, and they may be large."""
    for lock in parent.glob(f"{COPIES}*/{LOCK}"):
        with suppress(OSError, NotImplementedError, Timeout):
            # A younger one may be about to be locked.
            if time.time() - lock.stat().st_mtime > YOUNG_SECONDS:
                with FileLock(lock, blocking=False):
                    shutil.rmtree(lock.parent)
