"""Parts of files of comments: what every reader takes and gives, whatever the format."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, AnyStr, NamedTuple, TypeVar

import pyarrow as pa

from toxicity.core.errors import RequestError

# Arrow reads up to 32 blocks ahead, so they should be small; what does not fit into one is read with care instead.
BLOCK_BYTES = 2**21
LINE_TOO_LONG = f"its line is longer than {BLOCK_BYTES:,} bytes"

# Takes the column names of a file, and the file for its messages; gives those to read.
ChooseColumns = Callable[[list[str], str], list[str]]


class Part(NamedTuple):
    """Rows of a file that follow each other.

    `broken` tells why those of them are broken that are (by their number in the table from 0; they are all null), and
    `share` how much of the file is read by now, from 0 to 1.
    """

    table: pa.Table
    broken: dict[int, str]
    share: float


class Limit(NamedTuple):
    """The most that is in memory at a time: rows, and bytes of the text in them (one row may have more)."""

    rows: int
    bytes: int


ReadParts = Callable[[Path, ChooseColumns, Limit | None], Iterator[Part]]

T = TypeVar("T")


def choose_columns(path: Path, names: list[str], choose: ChooseColumns) -> list[str]:
    """Those of the columns `names` of the file that are to be read.

    Raises:
        RequestError: if it has one of them twice.
    """
    wanted = choose(names, str(path))
    doubles = [name for name in wanted if names.count(name) > 1]
    if doubles:
        raise RequestError(f"{path} has the column `{doubles[0]}` twice: rename or remove one.")
    return wanted


def batched(items: Iterator[T], limit: Limit | None, size: Callable[[T], int]) -> Iterator[list[T]]:
    """The same in lists that each go to the limit, the last one less; in one list if there is none; `size` in bytes."""
    batch, taken = [], 0
    for item in items:
        batch.append(item)
        taken += size(item)
        if limit is not None and (len(batch) == limit.rows or taken >= limit.bytes):
            yield batch
            batch, taken = [], 0
    if batch:
        yield batch


@contextmanager
def opened(path: Path) -> Iterator[tuple[IO[bytes], Callable[[], float]]]:
    """A plain, gzipped or zipped file, open for reading, and what tells the share of it that was read."""
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


def is_cut(line: AnyStr) -> bool:
    """Whether `readline(BLOCK_BYTES)` gave but the beginning of a line."""
    return len(line) == BLOCK_BYTES and line == line.rstrip("\r\n" if isinstance(line, str) else b"\r\n")


def skip_rest_of_line(file: IO[AnyStr]) -> None:
    """Go to the next line, wherever in a line the file stands."""
    while is_cut(file.readline(BLOCK_BYTES)):
        pass


def bounded_lines(file: IO[bytes]) -> Iterator[bytes | None]:
    """The lines of a file, None in the place of one that is too long."""
    while line := file.readline(BLOCK_BYTES):
        if is_cut(line):
            skip_rest_of_line(file)
            yield None
        else:
            yield line


def length_of(line: bytes | None) -> int:
    """Bytes of a line of `bounded_lines`."""
    return len(line or b"")
