"""Files of comments → one Arrow table, with everything that a parser cannot read named by file and row."""

from __future__ import annotations

import gzip
import json
import zipfile
import zlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from toxicity.errors import RequestError

# A row must fit into a block; the parsers' own default of 1 MB is less than the longest comments people paste.
BLOCK_BYTES = 2**24


# Takes the column names of a file, and the file for its messages; gives those to read.
ChooseColumns = Callable[[list[str], str], list[str]]


@dataclass
class BadRow:
    """A row that cannot be used: which file, which row of it (1 is the first below the header), and why."""

    file: str
    row: int
    reason: str


def read_files(path: str, choose: ChooseColumns) -> tuple[pa.Table, list[tuple[str, int]], list[BadRow]]:
    """Read a file, or all files of a folder in the order of their names.

    CSV (also .gz and .zip), JSON lines (also .gz) and parquet, by the ending of the name.

    Args:
        path: file or folder.
        choose: picks the columns to read; those of CSV files come as bytes, uninterpreted.

    Returns:
        The table, the name and number of rows of each file in it, and the rows whose structure could not be read,
        which are not in it.

    Raises:
        RequestError: for what is missing, empty, cut off, or not what its ending says.
    """
    files = _files_of(Path(path))
    tables, bad_rows = [], []
    for file in files:
        table, bad = _read_file(file, choose)
        bad_rows += [BadRow(str(file), row, reason) for row, reason in bad]
        tables.append(table)
    names = tables[0].column_names
    for file, table in zip(files, tables, strict=True):
        if sorted(table.column_names) != sorted(names):
            raise RequestError(f"{file} has the columns {_listed(table)}, but {files[0]} has {_listed(tables[0])}.")
    try:
        whole = pa.concat_tables([table.select(names) for table in tables], promote_options="permissive")
    except pa.ArrowException as error:
        raise RequestError(f"{path}: its files disagree about the type of a column: {one_line(error)}") from error
    return whole, [(str(file), len(table)) for file, table in zip(files, tables, strict=True)], bad_rows


def _files_of(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if _reader_of(file))
        if not files:
            raise RequestError(f"the folder {path} holds no data: no file ends in {', '.join(READERS)}.")
        return files
    if not path.is_file():
        raise RequestError(f"there is no file {path}.")
    if not _reader_of(path):
        raise RequestError(f"cannot read {path}: its name should end in one of {', '.join(READERS)}.")
    return [path]


def _read_file(path: Path, choose: ChooseColumns) -> tuple[pa.Table, list[tuple[int, str]]]:
    if path.stat().st_size == 0:
        raise RequestError(f"{path} is empty.")
    try:
        return _reader_of(path)(path, choose)
    except (EOFError, zipfile.BadZipFile, zlib.error, gzip.BadGzipFile) as error:
        raise RequestError(f"{path} is damaged or cut off: {one_line(error)}. Fetch it again.") from error
    except UnicodeDecodeError as error:
        raise RequestError(f"{path} is not UTF-8: {one_line(error)}. Convert it, with iconv for one.") from error
    except (pa.ArrowException, OSError) as error:
        raise RequestError(f"cannot read {path}: {one_line(error)}") from error


def _reader_of(path: Path) -> Callable[..., Any] | None:
    return next((reader for ending, reader in READERS.items() if path.name.lower().endswith(ending)), None)


def _open(path: Path) -> IO[bytes]:
    """Open a plain, gzipped or zipped file for reading."""
    if path.suffix == ".gz":
        return gzip.open(path)
    if path.suffix != ".zip":
        return path.open("rb")
    archive = zipfile.ZipFile(path)
    members = [name for name in archive.namelist() if name.lower().endswith(".csv") and not name.startswith("__MACOSX")]
    if len(members) != 1:
        raise RequestError(f"{path} should hold one CSV file; it holds {', '.join(archive.namelist()[:5]) or 'none'}.")
    return archive.open(members[0])


def _read_csv(path: Path, choose: ChooseColumns) -> tuple[pa.Table, list[tuple[int, str]]]:
    with closing(_open(path)) as file:
        header = pyarrow.csv.open_csv(
            file,
            read_options=pyarrow.csv.ReadOptions(block_size=BLOCK_BYTES),
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=lambda row: "skip"),
            # All as bytes: a header must not fail on the values below it.
            convert_options=pyarrow.csv.ConvertOptions(check_utf8=False),
        ).schema.names
    wanted = _choose(path, header, choose)
    bad_rows: list[tuple[int, str]] = []

    def skip(row: pyarrow.csv.InvalidRow) -> str:
        # The parser counts the header as row 1, and numbers rows only when it works on one thread.
        bad_rows.append(((row.number or 1) - 1, f"{row.actual_columns} columns instead of {row.expected_columns}"))
        return "skip"

    def read(use_threads: bool) -> pa.Table:
        bad_rows.clear()
        with closing(_open(path)) as file:
            return pyarrow.csv.read_csv(
                file,
                read_options=pyarrow.csv.ReadOptions(block_size=BLOCK_BYTES, use_threads=use_threads),
                parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=skip),
                convert_options=pyarrow.csv.ConvertOptions(
                    include_columns=wanted,
                    column_types=dict.fromkeys(wanted, pa.binary()),
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                ),
            )

    table = read(use_threads=True)
    if bad_rows:
        table = read(use_threads=False)
    elif len(table) and _ends_inside_quotes(path):
        bad_rows.append((len(table), "the file ends inside a quoted text, so it was cut off or has a stray quote"))
        table = table.slice(0, len(table) - 1)
    return table, bad_rows


def _ends_inside_quotes(path: Path) -> bool:
    """Whether a CSV file stops before a quoted text is closed, which a parser takes for the end of that text."""
    quotes, last_byte = 0, b""
    with closing(_open(path)) as file:
        while block := file.read(BLOCK_BYTES):
            quotes += block.count(b'"')
            last_byte = block.rstrip()[-1:] or last_byte
    return quotes % 2 == 1 and last_byte != b'"'


def _read_json_lines(path: Path, choose: ChooseColumns) -> tuple[pa.Table, list[tuple[int, str]]]:
    options = pyarrow.json.ReadOptions(block_size=BLOCK_BYTES)
    bad_rows: list[tuple[int, str]] = []
    try:
        with closing(_open(path)) as file:
            table = pyarrow.json.read_json(file, read_options=options)
    except pa.ArrowInvalid:
        # Its parser does not say which line; Python's does, slower.
        records: list[dict[str, Any]] = []
        with closing(_open(path)) as file:
            for number, line in enumerate(filter(bytes.strip, file), start=1):
                try:
                    record = json.loads(line)
                    if not isinstance(record, dict):
                        raise ValueError("not an object; one JSON object a line is expected")
                    records.append(record)
                except (ValueError, RecursionError) as error:
                    bad_rows.append((number, f"not JSON: {one_line(error)}"))
        if not records:
            raise RequestError(
                f"{path} holds no JSON lines: {bad_rows[0][1] if bad_rows else 'it is blank'}."
            ) from None
        names = _choose(path, list({name: None for record in records for name in record}), choose)
        table = pa.table({name: pa.array([record.get(name) for record in records]) for name in names})
    return table.select(_choose(path, table.column_names, choose)), bad_rows


def _read_parquet(path: Path, choose: ChooseColumns) -> tuple[pa.Table, list[tuple[int, str]]]:
    names = pyarrow.parquet.read_schema(path).names
    return pyarrow.parquet.read_table(path, columns=_choose(path, names, choose)), []


def _choose(path: Path, names: list[str], choose: ChooseColumns) -> list[str]:
    if len(names) == 1:
        for mark, kind in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
            if mark in names[0]:
                raise RequestError(f"{path} seems to be separated by {kind}; it should be by commas.")
    wanted = choose(names, str(path))
    doubles = [name for name in wanted if names.count(name) > 1]
    if doubles:
        raise RequestError(f"{path} has the column `{doubles[0]}` twice: rename or remove one.")
    return wanted


def one_line(error: BaseException) -> str:
    """The message of an error of another library, on one line of at most 200 characters."""
    return " ".join(str(error).split())[:200]


def _listed(table: pa.Table) -> str:
    return ", ".join(table.column_names)


READERS = {
    ".csv": _read_csv,
    ".csv.gz": _read_csv,
    ".csv.zip": _read_csv,
    ".zip": _read_csv,
    ".jsonl": _read_json_lines,
    ".jsonl.gz": _read_json_lines,
    ".json": _read_json_lines,
    ".parquet": _read_parquet,
}
