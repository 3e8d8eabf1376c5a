"""Files of comments → Arrow tables in which every row of the files has its place, also those that are broken."""

from __future__ import annotations

import csv
import gzip
import zipfile
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from toxicity.core.errors import RequestError, one_line
from toxicity.core.schema import TEXT
from toxicity.data.memory_map import mapped_from_disk
from toxicity.data.readers.base import (
    LINE_TOO_LONG,
    ChooseColumns,
    Limit,
    Part,
    ReadParts,
    batched,
    bounded_lines,
    length_of,
)
from toxicity.data.readers.csv import read_csv
from toxicity.data.readers.json_lines import read_json_lines
from toxicity.data.readers.parquet import read_parquet

TEXT_TYPES = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)


def read_files(path: str, choose: ChooseColumns) -> tuple[pa.Table, list[tuple[str, int]], dict[int, str]]:
    """Read a file, or all files of a folder and its subfolders in the order of their names.

    CSV (also .gz and .zip), JSON lines (also .gz) and parquet, by the ending of the name.

    Args:
        path: file or folder.
        choose: picks the columns to read; those of CSV and JSON come as bytes, uninterpreted.

    Returns:
        The table, the name and number of rows of each file in it, and the broken rows of the table (counted
        from 0, null in all columns) with the reason.

    Raises:
        RequestError: for what is missing, empty, cut off, or not what its ending says.
    """
    files = _files_of(Path(path))
    broken, file_of_part = {}, []

    def read() -> Iterator[pa.Table]:
        rows = 0
        for number, file in enumerate(files):
            for part in _parts(file, choose, None):
                broken.update({rows + row: reason for row, reason in part.broken.items()})
                rows += len(part.table)
                file_of_part.append(number)
                yield part.table

    parts = mapped_from_disk(read())
    tables = [
        pa.concat_tables([part for part, owner in zip(parts, file_of_part, strict=True) if owner == number])
        for number in range(len(files))
    ]
    names = tables[0].column_names
    for file, table in zip(files, tables, strict=True):
        if sorted(table.column_names) != sorted(names):
            raise RequestError(
                f"{file} has the columns {', '.join(table.column_names)}, but {files[0]} has {', '.join(names)}."
            )
    try:
        whole = pa.concat_tables([table.select(names) for table in tables], promote_options="permissive")
    except pa.ArrowException as error:
        raise RequestError(f"{path}: its files disagree about the type of a column: {one_line(error)}") from error
    return whole, [(str(file), len(table)) for file, table in zip(files, tables, strict=True)], broken


def read_windows(path: Path, choose: ChooseColumns, rows: int, max_bytes: int) -> Iterator[Part]:
    """Read a file of any size in flat memory, `rows` rows at a time, the last time fewer; at least one table comes.

    There are fewer rows too where they take `max_bytes` bytes. Columns are chosen once. Those that a JSON file first
    mentions after so many rows are not seen.

    Raises:
        RequestError: as `read_files`, but only when the reading gets there.
    """
    limit = Limit(rows, max_bytes)
    return _cut(_parts(path, choose, limit), limit)


def read_lines(file: IO[bytes], rows: int, max_bytes: int) -> Iterator[Part]:
    """Read comments from a stream, one a line, as `read_windows` does a file; the column `text` comes as bytes."""
    for lines in chain(batched(bounded_lines(file), Limit(rows, max_bytes), length_of), [[]]):
        table = _text_table([(line and line.rstrip(b"\r\n")) or None for line in lines])
        yield Part(table, {row: LINE_TOO_LONG for row, line in enumerate(lines) if line is None}, float(not lines))


def is_readable(name: str) -> bool:
    """Whether a file of this name can be read, going by its ending."""
    return _reader_of(name) is not None


def _text_table(lines: list[bytes | None]) -> pa.Table:
    return pa.table({TEXT: pa.array(lines, pa.binary())})


def _cut(parts: Iterator[Part], limit: Limit) -> Iterator[Part]:
    """The same rows in parts that each go to the limit, the last one less."""
    held, broken = None, {}
    for part in parts:
        before = 0 if held is None else len(held)
        broken |= {before + row: reason for row, reason in part.broken.items()}
        held = part.table if held is None else pa.concat_tables([held, part.table])
        while (rows := min(limit.rows, _rows_within(held, limit.bytes))) < len(held):
            yield Part(held[:rows], {row: reason for row, reason in broken.items() if row < rows}, part.share)
            held = held[rows:]
            broken = {row - rows: reason for row, reason in broken.items() if row >= rows}
    yield Part(held, broken, 1.0)


def _rows_within(table: pa.Table, max_bytes: int) -> int:
    """How many rows from the first on take no more text than that; one at least."""
    if table.nbytes <= max_bytes:
        return len(table)
    lengths = np.zeros(len(table), dtype=np.int64)
    for column in table.columns:
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if any(test(column.type) for test in TEXT_TYPES):
            lengths += pc.fill_null(pc.binary_length(column), 0).to_numpy()
    return max(1, int(np.searchsorted(lengths.cumsum(), max_bytes, side="right")))


def _files_of(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(file for file in path.rglob("[!.]*") if file.is_file() and is_readable(file.name))
        if not files:
            raise RequestError(f"the folder {path} holds no data: no file ends in {', '.join(READERS)}.")
        return files
    if not path.is_file():
        raise RequestError(f"there is no file {path}.")
    if not is_readable(path.name):
        raise RequestError(f"cannot read {path}: its name should end in one of {', '.join(READERS)}.")
    return [path]


def _reader_of(name: str) -> ReadParts | None:
    return next((reader for ending, reader in READERS.items() if name.lower().endswith(ending)), None)


def _parts(path: Path, choose: ChooseColumns, limit: Limit | None) -> Iterator[Part]:
    """A file in parts of whatever size suits its reader, at most the limit if there is one."""
    try:
        if path.stat().st_size == 0:
            raise RequestError(f"{path} is empty.")
        yield from _reader_of(path.name)(path, choose, limit)
    except (EOFError, zipfile.BadZipFile, zlib.error, gzip.BadGzipFile, RuntimeError, NotImplementedError) as error:
        raise RequestError(f"{path} is damaged, cut off or locked: {one_line(error)}. Fetch it again.") from error
    except (pa.ArrowException, csv.Error, OSError, UnicodeError) as error:
        raise RequestError(f"cannot read {path}: {one_line(error)}") from error


READERS = {
    ".csv": read_csv,
    ".csv.gz": read_csv,
    ".zip": read_csv,
    ".jsonl": read_json_lines,
    ".jsonl.gz": read_json_lines,
    ".json": read_json_lines,
    ".parquet": read_parquet,
}
