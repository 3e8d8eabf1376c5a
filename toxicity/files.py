"""Files that are seen under their names only when they are whole, and told apart by digests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import xxhash

BLOCK_BYTES = 2**22


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a hidden name to write to, and rename it when the block ends well; a reader finds a whole file or none.

    If the block raises, what it wrote is removed, and what was there under the name before is left.
    """
    unfinished = path.with_name(f".{path.name.lstrip('.')}.unfinished")
    try:
        yield unfinished
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    unfinished.replace(path)


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8, whole or not at all."""
    with written_whole(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def digest_of(path: Path) -> str:
    """32 hexadecimal digits that tell a file's content from any other: xxh3 of all its bytes."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def flush(path: Path) -> None:
    """Make sure that a file or folder is on the disk, not in memory alone."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
