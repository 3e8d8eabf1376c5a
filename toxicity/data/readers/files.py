"""Files of comments in any format → Arrow tables that keep a place for every row, broken ones included."""

from __future__ import annotations

import csv
import logging
import lzma
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from toxicity.core.console import log_once
from toxicity.core.errors import RequestError, one_line
from toxicity.core.schema import TEXT
from toxicity.data.memory_map import mapped_from_disk
from toxicity.data.readers.arrow import read_arrow, read_parquet
from toxicity.data.readers.base import (
    ChooseColumns,
    Layout,
    Limit,
    Part,
    batched,
    bounded_lines,
    line_too_long,
    printable_path,
    text_as_bytes,
    union_of,
)
from toxicity.data.readers.csv import read_csv
from toxicity.data.readers.encodings import utf8_stream
from toxicity.data.readers.json import read_json
from toxicity.data.readers.names import ARROW_ENDINGS, JSON_ENDINGS, TEXT_ENDINGS
from toxicity.data.readers.packings import Opened, opened

DEFAULT_LAYOUT = Layout()
# What the libraries raise for a damaged file.
DAMAGES = (EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, RuntimeError, NotImplementedError, OSError)
# The first bytes of a file → its reader.
ARROW_READERS = {b"PAR1": read_parquet, b"ARROW1": read_arrow, b"\xff\xff\xff\xff": read_arrow}
JSON_BEGINNING = re.compile(rb'(\xef\xbb\xbf)?\s*(\[\s*)?\{\s*"')


def read_files(
    files: Sequence[Path], choose: ChooseColumns, layout: Layout = DEFAULT_LAYOUT
) -> tuple[pa.Table, list[tuple[str, int]], dict[int, str]]:
    """Read files one after the other; what each of them is, its first bytes tell, or where they do not, its name.

    Args:
        files: one at least, in their order.
        choose: picks the columns to read of a file, under their canonical names.
        layout: of the files of text.

    Returns:
        The union of the files' columns under their canonical names, null where a file lacks one (see `union_of`); the
        name and number of rows of each file; and the reason for each broken row by its number from 0 in the table,
        where it is null in all columns. Values of CSV files are bytes, those of JSON as `read_json` says.

    Raises:
        RequestError: for a file that is missing, empty, cut off, or none of those that can be read.
    """
    broken: dict[int, str] = {}
    names: list[str] = []
    counts = [0] * len(files)

    def read() -> Iterator[pa.Table]:
        rows = 0
        for number, file in enumerate(files):
            for part in _parts(file, choose, layout, None):
                broken.update({rows + row: reason for row, reason in part.broken.items()})
                rows += len(part.table)
                names.append(printable_path(file))
                counts[number] += len(part.table)
                yield part.table

    table = union_of(mapped_from_disk(read()), names)
    return table, list(zip(map(printable_path, files), counts, strict=True)), broken


def read_windows(
    path: Path, choose: ChooseColumns, rows: int, max_bytes: int, layout: Layout = DEFAULT_LAYOUT
) -> Iterator[Part]:
    """Read a file of any size in constant memory, in parts of `rows` rows, or of fewer if those exceed `max_bytes`.

    At least one part comes, and the last one may be smaller. Columns are chosen once, at the beginning: keys that do
    not occur in the first part of a JSON file are not seen. The type of a JSON file's column may change between parts.

    Raises:
        RequestError: as `read_files`, when the reading gets to the fault.
    """
    limit = Limit(rows, max_bytes)
    return _resized(_parts(path, choose, layout, limit), limit)


def read_lines(file: IO[bytes], rows: int, max_bytes: int) -> Iterator[Part]:
    """Read comments from a stream, one per line, as `read_windows` reads a file; `text` comes as bytes."""
    batches = batched(bounded_lines(file), Limit(rows, max_bytes), lambda line: len(line or b""))
    for lines in chain(batches, [[]]):
        texts = [(line and line.rstrip(b"\r\n")) or None for line in lines]
        table = pa.table({TEXT: pa.array(texts, pa.binary())})
        yield Part(table, {row: line_too_long() for row, line in enumerate(lines) if line is None}, float(not lines))


def _resized(parts: Iterator[Part], limit: Limit) -> Iterator[Part]:
    """The same rows in parts that are as large as the limit allows; the last one may be smaller."""
    held, broken = None, {}
    for part in parts:
        before = 0 if held is None else len(held)
        broken |= {before + row: reason for row, reason in part.broken.items()}
        held = part.table if held is None else union_of([held, part.table])
        while (rows := min(limit.rows, _rows_within(held, limit.bytes))) < len(held):
            yield Part(held[:rows], {row: reason for row, reason in broken.items() if row < rows}, part.share)
            held = held[rows:]
            broken = {row - rows: reason for row, reason in broken.items() if row >= rows}
    yield Part(held, broken, 1.0)


def _rows_within(table: pa.Table, max_bytes: int) -> int:
    """How many rows from the first on have at most `max_bytes` bytes of text; one at least."""
    if table.nbytes <= max_bytes:
        return len(table)
    lengths = np.zeros(len(table), dtype=np.int64)
    for column in map(text_as_bytes, table.columns):
        if column is not None:
            lengths += pc.fill_null(pc.binary_length(column), 0).to_numpy()
    return max(1, int(np.searchsorted(lengths.cumsum(), max_bytes, side="right")))


def _parts(path: Path, choose: ChooseColumns, layout: Layout, limit: Limit | None) -> Iterator[Part]:
    """Read a file in the parts that its reader makes, and turn the errors of all libraries into `RequestError`.

    The reader reads each column once, whatever the number of names that are wanted for it.
    """
    shared: dict[str, str] = {}  # a second name of a column → the first one

    def choose_single(names: list[str], file: str) -> dict[str, str]:
        wanted = choose(names, printable_path(file))
        first: dict[str, str] = {}
        for name, column in wanted.items():
            if first.setdefault(column, name) != name:
                shared.setdefault(name, first[column])
        if doubles := [name for name in wanted.values() if names.count(name) > 1]:
            raise RequestError(f"{printable_path(file)} has the column `{doubles[0]}` twice: rename or remove one.")
        return {name: column for column, name in first.items()}

    try:
        if path.stat().st_size == 0:
            raise RequestError(f"{printable_path(path)} is empty.")
        with opened(path) as source:
            for part in _read(source, path, choose_single, layout, limit):
                yield part if not shared else part._replace(table=_with_names(part.table, shared))
    except (pa.ArrowException, csv.Error, UnicodeError) as error:
        raise RequestError(f"cannot read {printable_path(path)}: {one_line(error)}") from error
    except DAMAGES as error:
        # The system's own errors, as for a file that may not be read, have numbers.
        if isinstance(error, OSError) and error.errno is not None:
            raise RequestError(f"cannot read {printable_path(path)}: {one_line(error)}") from error
        raise RequestError(
            f"{printable_path(path)} is damaged, cut off or locked: {one_line(error)}. Fetch it again."
        ) from error


def _with_names(table: pa.Table, shared: Mapping[str, str]) -> pa.Table:
    """The same table with further names of its columns; both names share the values."""
    for name, other in shared.items():
        if other in table.column_names:
            table = table.append_column(name, table[other])
    return table


def _read(source: Opened, path: Path, choose: ChooseColumns, layout: Layout, limit: Limit | None) -> Iterator[Part]:
    """The parts of an opened file as its own reader makes them."""
    for beginning, reader in ARROW_READERS.items():
        if source.first.startswith(beginning):
            if source.packed:
                raise RequestError(f"{printable_path(path)} is a packed parquet or Arrow file: unpack it.")
            return reader(path, choose, limit)
    if source.name.endswith(ARROW_ENDINGS):
        raise RequestError(f"cannot read {printable_path(path)}: it is no parquet or Arrow file, as its name says.")
    if source.name.endswith(TEXT_ENDINGS) and layout.txt_holds_lines:
        return _read_text(source, path, choose, layout, limit or Limit(2**16, 2**24))
    if source.name.endswith(JSON_ENDINGS) or JSON_BEGINNING.match(source.first):
        return read_json(source, path, choose, layout, limit)
    return read_csv(source, path, choose, layout)


def _read_text(source: Opened, path: Path, choose: ChooseColumns, layout: Layout, limit: Limit) -> Iterator[Part]:
    log_once(logging.INFO, "A .txt file is read as one comment a line; with --delimiter it is a table.")
    (name,) = choose([TEXT], str(path))
    for part in read_lines(utf8_stream(source, path, layout.encoding), *limit):
        yield Part(part.table.rename_columns([name]), part.broken, source.share())
