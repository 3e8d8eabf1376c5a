"""Files and folders written completely or not at all, digests of their content, and paths of installed files."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import xxhash

from toxicity.core.errors import RequestError


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a hidden path to write to, and rename it to `path` at the end, so that readers see a complete file or none.

    If the block raises, what it wrote is removed and an older file at `path` stays. The file is not flushed to the
    disk: call `flush` for what must survive a power failure.
    """
    unfinished = path.with_name(f".{path.name.lstrip('.')}.unfinished")
    try:
        yield unfinished
    except BaseException:
        if unfinished.is_dir():
            shutil.rmtree(unfinished, ignore_errors=True)
        else:
            unfinished.unlink(missing_ok=True)
        raise
    unfinished.replace(path)


@contextmanager
def folder_written_whole(path: Path) -> Iterator[Path]:
    """The same for a folder: yield a hidden, empty folder to fill, which replaces the folder `path` at the end."""
    with written_whole(path) as unfinished:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        yield unfinished
        give_usual_modes(unfinished)
        shutil.rmtree(path, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8, completely or not at all.

    Bytes of a file's name that are not UTF-8, which Python holds as halves of surrogate pairs, become escapes like
    `\\udce9`: in JSON these stand for the same name when it is read again.
    """
    with written_whole(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8", errors="backslashreplace")


def name_as_text(name: str) -> str:
    """A file's name in which bytes that are not UTF-8, halves of surrogate pairs in Python, are escapes as above."""
    return name.encode(errors="backslashreplace").decode()


def give_usual_modes(folder: Path) -> None:
    """Give all files in a folder and below it the mode that a new file has there: what the umask lets through.

    safetensors writes its files for their owner alone, whatever the umask says (its issue 782), and a model in a folder
    of a group could not be read by the group. File systems without modes are left as they are.
    """
    probe = folder / ".mode"
    with suppress(OSError):
        # To ask for the umask is to change it for a moment, for all threads.
        probe.touch(0o666, exist_ok=False)
        mode = stat.S_IMODE(probe.stat().st_mode)
        probe.unlink()
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) != mode:
                path.chmod(mode)


def digest(parts: Iterable[Any]) -> str:
    """The xxh3 digest of a sequence of bytes, 32 hexadecimal digits.

    The pieces are `bytes`, or contiguous buffers such as NumPy arrays and memory views; where they are divided makes
    no difference.
    """
    state = xxhash.xxh3_128()
    for part in parts:
        state.update(part)
    return state.hexdigest()


def digest_of(path: Path) -> str:
    """The `digest` of a file's content."""
    with path.open("rb") as file:
        return digest(iter(lambda: file.read(2**22), b""))


def flush(path: Path) -> None:
    """Force a file or folder from memory to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@functools.cache
def installed_file(requirement: str, name: str, sha256: str) -> Path:
    """Path of a data file of an installed package; the package is not imported.

    Args:
        requirement: the package with its version, as pip takes it.
        name: the file's path inside site-packages.
        sha256: hexadecimal digest that the file must have.

    Raises:
        RequestError: if the package or the file is missing, or the file has another content.
    """
    try:
        path = Path(importlib.metadata.distribution(requirement.split("==")[0]).locate_file(name))
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except (importlib.metadata.PackageNotFoundError, FileNotFoundError) as error:
        raise RequestError(f"{name} is not installed: pip install {requirement}") from error
    if found != sha256:
        raise RequestError(f"{path} was altered: pip install --force-reinstall --no-deps {requirement}")
    return path


def bundled(folder: str) -> Path:
    """A folder of this project's own files, `recipes` or `accelerate_configs`: as installed, or in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / folder
    return installed if installed.is_dir() else package.parent / folder
