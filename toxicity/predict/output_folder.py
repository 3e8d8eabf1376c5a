"""The folder of a job's outputs: one of this machine, or an address of an object store with the same methods."""

from __future__ import annotations

import re
import tempfile
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from shutil import rmtree
from typing import TypeVar

from toxicity.core.disk import is_full_disk
from toxicity.core.errors import RequestError

# Protocols of object stores → what listed files of them begin with.
OBJECT_STORES = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}
# Requests that an object store answers at the same time, and the names for which their answers are held in memory.
REQUESTS_AT_ONCE, NAMES_AT_ONCE = 32, 1_000

T = TypeVar("T")


def output_folder(address: str) -> Path:
    """The folder that `--output` names: a `Path`, or for an address a `UPath`, which has the same methods.

    Raises:
        RequestError: for an address that is none of an object store, holds credentials, or needs other packages.
    """
    if re.match(r"[A-Za-z][\w+.-]*://", address) is None:
        return Path(address)
    protocol, _, path = address.partition("://")
    if protocol == "file":
        return Path(path)
    from toxicity.data.storage import bound_waits, without_credentials

    shown = without_credentials(address)
    if protocol not in OBJECT_STORES:
        raise RequestError(f"--output {shown}: name a folder, or an address that begins with s3:// or gs://.")
    if shown != address or re.match(r"[^/]*[@:]", path):
        raise RequestError(
            f"--output holds more than {protocol}://BUCKET/FOLDER: credentials belong in the environment, or in the "
            "files where the clients of the store look for them."
        )
    if not path.strip("/") or "//" in f"/{path.rstrip('/')}":
        raise RequestError(f"--output {address} names no bucket, or an empty folder: give {protocol}://BUCKET/FOLDER.")
    try:
        from upath import UPath

        bound_waits()
        # What others write there meanwhile is to be seen.
        folder = UPath(f"{OBJECT_STORES[protocol]}://{path.rstrip('/')}", use_listings_cache=False)
        with writing_to(folder):
            _ = folder.fs
    except ImportError as error:
        raise RequestError(
            f"--output {address} needs packages that are not installed: pip install -r requirements-cloud.txt"
        ) from error
    return folder


def is_local(folder: Path) -> bool:
    """Whether a folder is one of this machine, and not an address."""
    return isinstance(folder, Path)


def name_within(folder: Path, address: str) -> str | None:
    """The path relative to the folder of what is at an address, with slashes; None if that is not in the folder."""
    if is_local(folder):
        path, resolved = Path(address).resolve(), folder.resolve()
        return path.relative_to(resolved).as_posix() if path.is_relative_to(resolved) else None
    within = f"{str(folder).rstrip('/')}/"
    return address.removeprefix(within) if address.startswith(within) else None


def names_below(folder: Path, ending: str) -> list[str]:
    """The names of all files in a folder and below it that have an ending, relative to the folder; none without one."""
    if is_local(folder):
        return [path.relative_to(folder).as_posix() for path in folder.rglob(f"*{ending}") if path.is_file()]
    start = len(folder.path.rstrip("/")) + 1
    return [path[start:] for path in folder.fs.find(folder.path) if path.endswith(ending)]


def sizes_of(folder: Path, names: Collection[str]) -> dict[str, int]:
    """The bytes of those of the files that are there, by name; one listing in an object store."""
    sizes: dict[str, int] = {}
    if is_local(folder):
        for name in names:
            with suppress(FileNotFoundError, NotADirectoryError):
                sizes[name] = (folder / name).stat().st_size
    elif names:
        start, names = len(folder.path.rstrip("/")) + 1, set(names)
        found = folder.fs.find(folder.path, detail=True)
        sizes = {path[start:]: info["size"] for path, info in found.items() if path[start:] in names}
    return sizes


def contents_of(folder: Path, names: Sequence[str]) -> Iterator[bytes | None]:
    """The content of each file, None for one that is not there; many requests at the same time to an object store.

    Files are not empty.
    """

    def read(name: str) -> bytes | None:
        path = folder / name
        with suppress(FileNotFoundError, NotADirectoryError):
            # For all of a file, and not for what is from a byte on, s3fs asks for its size first.
            return path.read_bytes() if is_local(folder) else folder.fs.cat_file(path.path, start=0)

    return map(read, names) if is_local(folder) else _at_the_same_time(read, names)


def remove(folder: Path, names: Sequence[str]) -> None:
    """Remove files; no error for those that are gone already."""

    def remove_one(name: str) -> None:
        path = folder / name
        with suppress(FileNotFoundError):
            path.unlink() if is_local(folder) else folder.fs.rm_file(path.path)

    for _ in _at_the_same_time(remove_one, names):
        pass


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A folder of this machine to write files in, from which `put` moves them; what is left there is removed.

    It is in `parent`, or for temporary files if that is in an object store. No other process has it.

    Raises:
        RequestError: if the disk is full.
    """
    if is_local(parent):
        folder, flag = parent / uuid.uuid4().hex, "as --output"
        folder.mkdir(parents=True)
    else:
        folder, flag = Path(tempfile.mkdtemp()), "in TMPDIR"
    try:
        yield folder
    except OSError as error:
        if not is_full_disk(error):
            raise
        reason = error.strerror or error
        raise RequestError(
            f"cannot write to {folder.parent}: {reason}. Make room there, or name another folder {flag}."
        ) from error
    finally:
        rmtree(folder, ignore_errors=True)


def put(file: Path, target: Path) -> None:
    """Move a file of a `scratch_folder` to `target`, where it appears whole.

    Raises:
        RequestError: if an object store does not take it, also when tried again for some time.
        OSError: if the file system does not.
    """
    if is_local(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        file.replace(target)
        return
    from toxicity.data.fetching import retried

    with writing_to(target):
        # s3fs and gcsfs give up sooner than an outage is over, and the scores of a large file take longer.
        retried(lambda: target.fs.put_file(str(file), target.path), str(target))


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turn any `OSError` of the block, and of an object store any error, into a `RequestError` about the folder."""
    try:
        yield
    except (RequestError, ImportError):
        raise
    except Exception as error:
        if not is_local(folder):
            from toxicity.data.storage import reason_of

            raise RequestError(
                f"cannot reach {folder}: {type(error).__name__}: {reason_of(error).rstrip('.')}. Check the address, "
                "your right to read and write there, and the network."
            ) from error
        if not isinstance(error, OSError):
            raise
        raise RequestError(
            f"cannot write to {folder}: {error.strerror or error}. Make room there, or name another folder as --output."
        ) from error


def _at_the_same_time(work: Callable[[str], T], names: Sequence[str]) -> Iterator[T]:
    """The results for all names in order."""
    remaining = iter(names)
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        while batch := list(islice(remaining, NAMES_AT_ONCE)):
            yield from pool.map(work, batch)
