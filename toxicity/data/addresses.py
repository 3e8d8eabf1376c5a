"""Files of comments by address: a path, a folder, a pattern or a URL, listed in a fixed order."""

from __future__ import annotations

import difflib
import logging
import os
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from toxicity.core.errors import RequestError
from toxicity.data.fetching import retried, status_of, versions_of
from toxicity.data.folders import is_skipped
from toxicity.data.readers.names import ENDINGS, is_readable
from toxicity.data.storage import access_errors_explained, is_web, located, without_credentials, without_query

# Web servers are asked for each file of a folder; and again where they fail, as the clients of object stores do too.
CALLS_AT_ONCE, TRIES = 8, 3

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
    location: str | None = field(default=None, repr=False)  # None where it is the address


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
        files, path = located(address)
        described, pattern = _described(files, path), None
        if described is not None and described["type"] == "directory":
            folder, wants_hidden = path, False
            is_local = isinstance(files, LocalFileSystem)
            found = dict.fromkeys(_files_below(path)) if is_local else files.find(path, detail=True)
        elif described is not None:
            name = without_query(path)
            if described["type"] != "file" or not is_readable(name):
                raise RequestError(
                    f"cannot read {without_credentials(address)}: its name should end in one of {ENDINGS}."
                )
            return [_data_file(files, address, path, PurePosixPath(name).name, described)]
        # In front of the query of a URL, which begins with a question mark.
        elif pattern := re.search(r"[*?\[]", without_query(path)):
            found = {name: info for name, info in files.glob(path, detail=True).items() if _is_file(files, name, info)}
            folder = path[: pattern.start()].rpartition("/")[0]
            wants_hidden = any(part.startswith((".", "_")) for part in path.removeprefix(folder).split("/"))
        else:
            _refuse_dangling(files, path)
            raise RequestError(f"there is no file {without_credentials(address)}.{_nearest(files, path)}")
        paths = {name.removeprefix(folder).lstrip("/"): name for name in sorted(found)}
        names = _names_of_data(list(paths), without_credentials(address), pattern is None, wants_hidden)
        with ThreadPoolExecutor(CALLS_AT_ONCE) as pool:  # only local and web servers are called for each
            return list(pool.map(lambda name: _data_file(files, address, paths[name], name, found[paths[name]]), names))


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


def local_folder(address: str) -> Path | None:
    """The folder that an address names, if it is one on this machine."""
    with access_errors_explained(address):
        files, path = located(address)
        return Path(path) if isinstance(files, LocalFileSystem) and files.isdir(path) else None


def _files_below(folder: str) -> Iterator[str]:
    """All files in a folder on this machine; fsspec would pass over subfolders that may not be read, without a word."""

    def refuse(error: OSError) -> None:
        if not is_skipped(str(error.filename).removeprefix(folder).lstrip("/")):
            raise error

    for parent, _, names in os.walk(folder, onerror=refuse):
        yield from (f"{parent.rstrip('/')}/{name}" for name in names)


def _described(files: AbstractFileSystem, path: str) -> dict[str, Any] | None:
    """What a file system says of a path, its `type` in any case; None if there is nothing of that name."""
    if isinstance(files, LocalFileSystem):  # links are followed
        kind = "directory" if files.isdir(path) else "file" if files.isfile(path) else "other"
        return files.info(path) | {"type": kind} if files.exists(path) else None
    if not is_web(files):
        with suppress(FileNotFoundError, NotADirectoryError):
            return files.info(path)
        return None
    if is_readable(without_query(path)):
        return _described_by_server(files, path)
    # fsspec takes any page with links for a folder.
    return {"type": "directory"} if files.isdir(path) else {"type": "file"} if files.exists(path) else None


def _described_by_server(files: AbstractFileSystem, url: str) -> dict[str, Any] | None:
    """The description of a file on a web server; what refuses or fails is raised, not taken for a missing file."""

    def info() -> dict[str, Any] | None:
        try:
            return files.info(url)
        except FileNotFoundError as error:
            if error.__cause__ is None or status_of(error.__cause__) in (404, 410):
                return None
            raise error.__cause__ from None

    return retried(info, url, TRIES)


def _is_file(files: AbstractFileSystem, path: str, info: Mapping[str, Any]) -> bool:
    # Links on this machine may lead to files.
    return files.isfile(path) if isinstance(files, LocalFileSystem) else info["type"] == "file"


def _data_file(
    files: AbstractFileSystem, address: str, path: str, name: str, info: Mapping[str, Any] | None
) -> DataFile:
    """A file by its description, which is asked for where the list of a folder has none, as of web servers."""
    _refuse_dangling(files, path)
    if info is None or info.get("size") is None:
        info = _described(files, path) or {}
    version = next(iter(versions_of(info)), None)
    if isinstance(files, LocalFileSystem):
        return DataFile(path, name, info.get("size"), version)
    # Of a chain like simplecache::zip://*.csv::https://HOST/FILE.zip, the first link with a path is that of the file.
    links = address.split("::")
    number = next((number for number, link in enumerate(links) if "://" in link), 0)
    location = "::".join([*links[:number], files.unstrip_protocol(path), *links[number + 1 :]])
    return DataFile(without_credentials(location), name, info.get("size"), version, location)


def _refuse_dangling(files: AbstractFileSystem, path: str) -> None:
    if isinstance(files, LocalFileSystem) and (link := Path(path)).is_symlink() and not link.exists():
        raise RequestError(f"{path} is a link to {link.readlink()}, which is not there.")


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
