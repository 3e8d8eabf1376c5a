"""Files of comments in any format → Arrow tables that keep a place for every row, broken ones included."""

from __future__ import annotations

import csv
import gzip
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
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
    Layout,
    Limit,
    Part,
    batched,
    bounded_lines,
    text_as_bytes,
)
from toxicity.data.readers.csv import read_csv
from toxicity.data.readers.json_lines import read_json_lines
from toxicity.data.readers.parquet import read_parquet

DEFAULT_LAYOUT = Layout()


def read_files(
    files: Sequence[Path], choose: Callable[[list[str], str], dict[str, str]], layout: Layout = DEFAULT_LAYOUT
) -> tuple[pa.Table, list[tuple[str, int]], dict[int, str]]:
    """Read a file, or all files of a folder and its subfolders in the order of their names.

    The ending of a name tells the format: CSV (also .gz and .zip), JSON lines (also .gz) or parquet.

    Args:
        path: file or folder.
        choose: picks the columns to read; values of CSV and JSON files come as bytes.

    Returns:
        The table, the name and number of rows of each file, and the reason for each broken row by its number from 0
        in the table, where it is null in all columns.

    Raises:
        RequestError: for a file that is missing, empty, cut off, or not of the format that its ending names.
    """
    path = files if isinstance(files, str) else str(files[0])
    files = _files_of(files) if isinstance(files, str) else files
    broken: dict[int, str] = {}
    part_counts = [0] * len(files)

    def read() -> Iterator[pa.Table]:
        rows = 0
        for number, file in enumerate(files):
            columns: dict[str, str] = {}

            def chosen(names: list[str], name: str, columns: dict[str, str] = columns) -> list[str]:
                found = choose(names, name)
                columns.update(found if isinstance(found, dict) else dict(zip(found, found, strict=True)))
                return list(dict.fromkeys(columns.values()))

            for part in _parts(file, chosen, None):
                part = part._replace(table=part.table.select(list(columns.values())).rename_columns(list(columns)))
                broken.update({rows + row: reason for row, reason in part.broken.items()})
                rows += len(part.table)
                part_counts[number] += 1
                yield part.table

    parts = iter(mapped_from_disk(read()))
    tables = [pa.concat_tables(islice(parts, count)) for count in part_counts]
    try:
        whole = pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowTypeError:
        text = [
            pa.table({name: table[name].cast(pa.string()).cast(pa.binary()) for name in table.column_names})
            for table in tables
        ]
        whole = pa.concat_tables(text, promote_options="permissive")
    except pa.ArrowException as error:
        raise RequestError(f"{path}: its files disagree about the type of a column: {one_line(error)}") from error
    return whole, [(str(file), len(table)) for file, table in zip(files, tables, strict=True)], broken


def read_windows(
    path: Path,
    choose: ChooseColumns,
    rows: int,
    max_bytes: int,
    layout: Layout = Layout(),  # noqa: B008
) -> Iterator[Part]:
    """Read a file of any size in constant memory, in parts of `rows` rows, or of fewer if those exceed `max_bytes`.

    At least one part comes, and the last one may be smaller. Columns are chosen once, at the beginning: keys that do
    not occur in the first part of a JSON lines file are not seen.

    Raises:
        RequestError: as `read_files`, when the reading gets to the fault.
    """
    limit = Limit(rows, max_bytes)
    return _resized(_parts(path, choose, limit), limit)


def read_lines(file: IO[bytes], rows: int, max_bytes: int) -> Iterator[Part]:
    """Read comments from a stream, one per line, as `read_windows` reads a file; `text` comes as bytes."""
    batches = batched(bounded_lines(file), Limit(rows, max_bytes), lambda line: len(line or b""))
    for lines in chain(batches, [[]]):
        texts = [(line and line.rstrip(b"\r\n")) or None for line in lines]
        table = pa.table({TEXT: pa.array(texts, pa.binary())})
        yield Part(table, {row: LINE_TOO_LONG for row, line in enumerate(lines) if line is None}, float(not lines))


def is_readable(name: str, in_folder: bool = False) -> bool:
    """Whether the ending of a file's name is that of a format that can be read."""
    return name.lower().endswith(tuple(READERS))


def likely_encoding(path: Path) -> str | None:
    """Stands in for the guess that the readers' branch makes."""
    return "cp1252" if b"\x93" in path.read_bytes() else None


def stem_of(name: str) -> str:
    """The name without its ending; `train.csv.zip` contains `train.csv`."""
    ending = next(ending for ending in READERS if name.lower().endswith(ending))
    stem = name[: -len(ending)]
    return stem.removesuffix(".csv") if ending == ".zip" else stem


def _resized(parts: Iterator[Part], limit: Limit) -> Iterator[Part]:
    """The same rows in parts that are as large as the limit allows; the last one may be smaller."""
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
    """How many rows from the first on have at most `max_bytes` bytes of text; one at least."""
    if table.nbytes <= max_bytes:
        return len(table)
    lengths = np.zeros(len(table), dtype=np.int64)
    for column in map(text_as_bytes, table.columns):
        if column is not None:
            lengths += pc.fill_null(pc.binary_length(column), 0).to_numpy()
    return max(1, int(np.searchsorted(lengths.cumsum(), max_bytes, side="right")))


def _files_of(name: str) -> list[Path]:
    path = Path(name)
    # An empty name is not that of the current folder, which `Path` takes it for.
    if name and path.is_dir():
        files = sorted(file for file in path.rglob("[!.]*") if file.is_file() and is_readable(file.name))
        if not files:
            raise RequestError(f"the folder {path} holds no data: no file ends in {', '.join(READERS)}.")
        return files
    if not path.is_file():
        raise RequestError(f"there is no file {path}.")
    if not is_readable(path.name):
        raise RequestError(f"cannot read {path}: its name should end in one of {', '.join(READERS)}.")
    return [path]


def _parts(path: Path, choose: ChooseColumns, limit: Limit | None) -> Iterator[Part]:
    """Read a file in the parts that its reader makes, and turn the errors of all libraries into `RequestError`."""

    def choose_single(names: list[str], file: str) -> list[str]:
        wanted = choose(names, file)
        if doubles := [name for name in wanted if names.count(name) > 1]:
            raise RequestError(f"{file} has the column `{doubles[0]}` twice: rename or remove one.")
        return wanted

    try:
        if path.stat().st_size == 0:
            raise RequestError(f"{path} is empty.")
        reader = next(reader for ending, reader in READERS.items() if path.name.lower().endswith(ending))
        yield from reader(path, choose_single, limit)
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
ENDINGS = ", ".join(READERS)
