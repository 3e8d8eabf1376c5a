"""What the readers of all formats share: parts of files, limits on their size, and lines of bounded length."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, AnyStr, NamedTuple, TypeVar

import pyarrow as pa

from toxicity.core.errors import RequestError

# Arrow's CSV reader reads up to 32 blocks ahead, so blocks are small; a file with a longer row is read by Python's.
BLOCK_BYTES = 2**21
LINE_TOO_LONG = f"its line is longer than {BLOCK_BYTES:,} bytes"

# Takes the column names of a file, and the file's name for error messages; returns the columns to read.
ChooseColumns = Callable[[list[str], str], list[str]]


class Layout(NamedTuple):
    """How files of text are laid out, where that is not to be found out from their first bytes."""

    delimiter: str | None = None  # what separates the columns of a CSV file, one character
    encoding: str | None = None  # a name that Python knows
    txt_holds_lines: bool = False  # whether a `.txt` file is one comment a line, and not a table


class Part(NamedTuple):
    """Consecutive rows of a file.

    `broken` gives the reason for each row of the table that could not be read, by its number from 0; such a row is
    null in all columns. `share` is the fraction of the file that has been read by the end of the part.
    """

    table: pa.Table
    broken: dict[int, str]
    share: float


class Limit(NamedTuple):
    """The most that a part may hold: rows, and bytes of text; a single row may have more bytes."""

    rows: int
    bytes: int


T = TypeVar("T")


def batched(items: Iterator[T], limit: Limit | None, size: Callable[[T], int]) -> Iterator[list[T]]:
    """Group items of `size` bytes into lists, each ending with the item that reaches the limit; one without a limit."""
    batch, taken = [], 0
    for item in items:
        batch.append(item)
        taken += size(item)
        if limit is not None and (len(batch) == limit.rows or taken >= limit.bytes):
            yield batch
            batch, taken = [], 0
    if batch:
        yield batch


def text_as_bytes(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """A column of text of any Arrow type as bytes; None if it is no text."""
    types = pa.types
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    tests = (types.is_string, types.is_large_string, types.is_string_view, types.is_binary, types.is_large_binary)
    if not any(test(column.type) for test in (*tests, types.is_null)):
        return None
    return column.cast(pa.large_binary())


@contextmanager
def opened(path: Path) -> Iterator[tuple[IO[bytes], Callable[[], float]]]:
    """Open a plain, gzipped or zipped file; yields it, and a function that returns the fraction read so far."""
    with path.open("rb") as raw:
        size = path.stat().st_size

        def share() -> float:
            return 1.0 if raw.closed else raw.tell() / size

        if path.suffix.lower() == ".gz":
            with gzip.open(raw) as file:
                yield file, share
        elif path.suffix.lower() == ".zip":
            with zipfile.ZipFile(raw) as archive, archive.open(_only_csv(archive, path)) as file:
                yield file, share
        else:
            yield raw, share


def _only_csv(archive: zipfile.ZipFile, path: Path) -> str:
    members = [name for name in archive.namelist() if name.lower().endswith(".csv") and not name.startswith("__MACOSX")]
    if len(members) != 1:
        raise RequestError(f"{path} should hold one CSV file; it holds {', '.join(archive.namelist()[:5]) or 'none'}.")
    return members[0]


def bounded_lines(file: IO[AnyStr]) -> Iterator[AnyStr | None]:
    """The lines of a file, with None for each line longer than `BLOCK_BYTES`, which might not fit into the memory."""
    while line := file.readline(BLOCK_BYTES):
        if _is_cut(line):
            while _is_cut(file.readline(BLOCK_BYTES)):
                pass
            yield None
        else:
            yield line


def _is_cut(line: AnyStr) -> bool:
    """Whether `readline(BLOCK_BYTES)` returned only the beginning of a line."""
    return len(line) == BLOCK_BYTES and line == line.rstrip("\r\n" if isinstance(line, str) else b"\r\n")
