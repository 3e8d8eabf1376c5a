"""Files of comments by address: a path, a folder, a pattern or a URL, listed in a fixed order and fetched when read."""

from __future__ import annotations

import difflib
import logging
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import fsspec
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from toxicity.core.disk import is_full_disk
from toxicity.core.errors import RequestError, one_line
from toxicity.data.folders import is_skipped
from toxicity.data.readers.names import ENDINGS, is_readable

# Names under which file systems report a digest of a file's content, and the time of its last change.
DIGEST_KEYS = ("blob_id", "ETag", "etag", "md5Hash", "content_md5", "Content-MD5", "Digest", "CRC")
TIME_KEYS = ("mtime", "LastModified", "Last-Modified", "last_modified", "modified")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataFile:
    """A file of comments.

    `address` is its path, or its URL without user, password and query, which may hold credentials; `location` is the
    same with them, as `fsspec` opens it, and is not to be shown.
    """

    address: str
    name: str  # its path relative to the folder or to the fixed part of the pattern that was asked for
    bytes: int | None  # its size; None if unknown, as for a stream
    version: str | None  # changes when the content changes; None if the file system reports nothing of the kind
    location: str | None = None  # None where it is the address


def list_data_files(address: str, flag: str = "--train_file") -> list[DataFile]:
    """The files at an address; those of a folder or a pattern are sorted by name.

    Of a folder and of a pattern's matches those are left out that `is_skipped` tells, and what has no ending of data.

    Args:
        address: a file, a folder, or a pattern with `*`, `?` or `[`: a path or a URL that `fsspec` knows, such as
            `hf://datasets/USER/NAME/FILE` or `zip://FILE::ARCHIVE.zip`.
        flag: what named it, for messages.

    Raises:
        RequestError: if there is no such file, it cannot be reached, or nothing there is of a known format.
    """
    if not address:
        raise RequestError(f"there is no file of an empty name: give {flag} a file, a folder or a pattern.")
    with access_errors_explained(address):
        files, path = _located(address)
        # Checked before `isdir`, as fsspec takes any page with links on a web server for a folder.
        if is_readable(_without_query(path)) and files.isfile(path):
            return [_data_file(files, address, path, PurePosixPath(_without_query(path)).name)]
        pattern = None
        if files.isdir(path):
            folder, wants_hidden = path, False
            paths = _files_below(path) if isinstance(files, LocalFileSystem) else files.find(path)
        elif files.exists(path):
            raise RequestError(f"cannot read {without_credentials(address)}: its name should end in one of {ENDINGS}.")
        # In front of the query of a URL, which begins with a question mark.
        elif pattern := re.search(r"[*?\[]", _without_query(path)):
            paths = [found for found in files.glob(path) if files.isfile(found)]
            folder = path[: pattern.start()].rpartition("/")[0]
            wants_hidden = any(part.startswith((".", "_")) for part in path.removeprefix(folder).split("/"))
        else:
            _refuse_dangling(path)
            raise RequestError(f"there is no file {without_credentials(address)}.{_nearest(files, path)}")
        paths_of = {found.removeprefix(folder).lstrip("/"): found for found in sorted(paths)}
        names = _names_of_data(list(paths_of), without_credentials(address), pattern is None, wants_hidden)
        return [_data_file(files, address, paths_of[name], name) for name in names]


def _names_of_data(names: list[str], address: str, in_folder: bool, wants_hidden: bool) -> list[str]:
    """Those files at an address that are to be read; what is left out of known formats is logged."""
    readable = [name for name in names if is_readable(name, in_folder)]
    data = [name for name in readable if not is_skipped(name, wants_hidden)]
    if not data:
        why = "all its files are hidden or describe data" if readable else f"no file ends in {ENDINGS}"
        raise RequestError(f"{address} holds no data: {why}.")
    if len(data) < len(readable):
        skipped = [name for name in readable if is_skipped(name, wants_hidden)]
        examples = ", ".join(skipped[:3]) + (", ..." if len(skipped) > 3 else "")
        logger.info(f"Not read in {address}: {len(skipped):,} files that are hidden or no data: {examples}")
    return data


@contextmanager
def local_copy(file: DataFile) -> Iterator[Path]:
    """The path of a local file, or of a temporary copy of a remote one.

    The copy is complete because reading parquet and zip files needs random access, and some files are read twice. Where
    a refusal in the block names the copy, it is made to name the address. A local file whose name is not UTF-8, which
    Arrow cannot open, comes by a temporary link.

    Raises:
        RequestError: if the file cannot be fetched completely, or there is no place for the copy.
    """
    with access_errors_explained(file.address):
        files, path = _located(file.location or file.address)
    if isinstance(files, LocalFileSystem) and _is_text(path):
        yield Path(path)
        return
    with _temporary_folder() as folder:
        name = PurePosixPath(_without_query(path)).name
        copy = folder / name.encode(errors="backslashreplace").decode()
        if isinstance(files, LocalFileSystem):
            copy.symlink_to(path)
        else:
            _fetch(files, path, copy, file)
        try:
            yield copy
        except RequestError as error:
            raise RequestError(str(error).replace(str(copy), file.address)) from error


def _fetch(files: AbstractFileSystem, path: str, copy: Path, file: DataFile) -> None:
    with access_errors_explained(file.address, copy):
        files.get_file(path, str(copy))
    if file.bytes is not None and copy.stat().st_size != file.bytes:
        raise RequestError(
            f"{file.address} was cut off: {copy.stat().st_size:,} of {file.bytes:,} bytes came. Run this again."
        )


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def without_credentials(address: str) -> str:
    """An address, or a message with addresses in it, without what may be a credential: user, password and query."""
    without_query = re.sub(r"(\w+://[^\s?'\"]*)\?[^\s'\"?]*=[^\s'\")]*", r"\1", address)
    # In front of the @ of other file systems, as in abfs://CONTAINER@ACCOUNT, stands a name, unless it has a colon.
    return re.sub(r"((?:https?|ftps?|sftp|ssh)://)[^/\s@]+@|(\w+://)[^/\s@:]*:[^/\s@]*@", r"\1\2", without_query)


def local_folder(address: str) -> Path | None:
    """The folder that an address names, if it is one on this machine."""
    with access_errors_explained(address):
        files, path = _located(address)
        return Path(path) if isinstance(files, LocalFileSystem) and files.isdir(path) else None


@contextmanager
def access_errors_explained(address: str, copy: Path | None = None) -> Iterator[None]:
    """Turn all errors of reaching an address, and of writing `copy`, into `RequestError`."""
    try:
        yield
    except RequestError:
        raise
    except Exception as error:  # the type depends on the file system, its client and the network
        if copy is not None and isinstance(error, OSError) and error.filename == str(copy):
            raise _no_place(copy.parent, error) from error
        # A disk fills up while the copy is written; the file itself is only read.
        if copy is not None and is_full_disk(error):
            raise _no_place(copy.parent, error) from error
        reason = without_credentials(one_line(error))
        raise RequestError(
            f"cannot reach {without_credentials(address)}: {type(error).__name__}: {reason} "
            "Check the address, your right to read it, and the network."
        ) from error


def _located(address: str) -> tuple[AbstractFileSystem, str]:
    """The file system of an address, and the path there. What is there by that very name is a path and no URL."""
    if os.path.lexists(address):
        return LocalFileSystem(), str(Path(address).absolute())
    return fsspec.url_to_fs(address)


def _files_below(folder: str) -> Iterator[str]:
    """All files in a folder on this machine; fsspec would pass over subfolders that may not be read, without a word."""

    def refuse(error: OSError) -> None:
        if not is_skipped(str(error.filename).removeprefix(folder).lstrip("/")):
            raise error

    for parent, _, names in os.walk(folder, onerror=refuse):
        yield from (f"{parent.rstrip('/')}/{name}" for name in names)


def _data_file(files: AbstractFileSystem, address: str, path: str, name: str) -> DataFile:
    _refuse_dangling(path)
    info = files.info(path)
    version = next((str(info[key]) for key in (*DIGEST_KEYS, *TIME_KEYS) if info.get(key)), None)
    if isinstance(files, LocalFileSystem):
        return DataFile(path, name, info.get("size"), version)
    # Of a chain like simplecache::zip://*.csv::https://HOST/FILE.zip, the first link with a path is that of the file.
    links = address.split("::")
    number = next((number for number, link in enumerate(links) if "://" in link), 0)
    location = "::".join([*links[:number], files.unstrip_protocol(path), *links[number + 1 :]])
    return DataFile(without_credentials(location), name, info.get("size"), version, location)


def _refuse_dangling(path: str) -> None:
    # A remote path is none here, and so no link.
    if (link := Path(path)).is_symlink() and not link.exists():
        raise RequestError(f"{path} is a link to {link.readlink()}, which is not there.")


def _without_query(path: str) -> str:
    return re.sub(r"[?#].*", "", path) if path.startswith(("http://", "https://")) else path


def _nearest(files: AbstractFileSystem, path: str) -> str:
    """A sentence with the name in the folder that is nearest to that of a missing file; nothing without one."""
    folder, _, name = path.rpartition("/")
    near: dict[str, str] = {}
    with suppress(Exception):  # not all file systems can list a folder, and the message is about the missing file
        for found in files.ls(folder or "/", detail=False):
            if not is_skipped(base := str(found).rstrip("/").rpartition("/")[2]):
                near[base.lower()] = base
    nearest = difflib.get_close_matches(name.lower(), near, n=1)
    return f" The nearest there is {near[nearest[0]]}." if nearest else ""


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    try:
        folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    except OSError as error:
        raise _no_place(Path(os.environ.get("TMPDIR", "/tmp")), error) from error
    with folder as name:
        yield Path(name)


def _no_place(folder: Path, error: Exception) -> RequestError:
    reason = getattr(error, "strerror", None) or one_line(error)
    return RequestError(
        f"cannot keep a temporary copy in {folder}: {reason}. Make room there, or name another folder in TMPDIR."
    )
