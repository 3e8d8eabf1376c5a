"""Files of comments → one Arrow table in which every row of the files has its place, also those that are broken."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, AnyStr

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from toxicity.errors import RequestError

# A row must fit into a block; Arrow's own default of 1 MB is less than the longest comments people paste.
BLOCK_BYTES = 2**24

# Takes the column names of a file, and the file for its messages; gives those to read.
ChooseColumns = Callable[[list[str], str], list[str]]
# A table, and why those of its rows are broken that are (by their number from 0); these are all null.
ReadTable = tuple[pa.Table, dict[int, str]]


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
    tables, broken, rows = [], {}, 0
    for file in files:
        table, reasons = _read_file(file, choose)
        broken |= {rows + row: reason for row, reason in reasons.items()}
        rows += len(table)
        tables.append(table)
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


def one_line(error: BaseException) -> str:
    """The message of an error of another library, on one line of at most 200 characters."""
    return " ".join(str(error).split())[:200]


def _files_of(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(file for file in path.rglob("[!.]*") if file.is_file() and _reader_of(file))
        if not files:
            raise RequestError(f"the folder {path} holds no data: no file ends in {', '.join(READERS)}.")
        return files
    if not path.is_file():
        raise RequestError(f"there is no file {path}.")
    if not _reader_of(path):
        raise RequestError(f"cannot read {path}: its name should end in one of {', '.join(READERS)}.")
    return [path]


def _reader_of(path: Path) -> Callable[[Path, ChooseColumns], ReadTable] | None:
    return next((reader for ending, reader in READERS.items() if path.name.lower().endswith(ending)), None)


def _read_file(path: Path, choose: ChooseColumns) -> ReadTable:
    if path.stat().st_size == 0:
        raise RequestError(f"{path} is empty.")
    try:
        return _reader_of(path)(path, choose)
    except (EOFError, zipfile.BadZipFile, zlib.error, gzip.BadGzipFile, RuntimeError, NotImplementedError) as error:
        raise RequestError(f"{path} is damaged, cut off or locked: {one_line(error)}. Fetch it again.") from error
    except (pa.ArrowException, csv.Error, OSError, UnicodeError) as error:
        raise RequestError(f"cannot read {path}: {one_line(error)}") from error


def _open(path: Path) -> IO[bytes]:
    """Open a plain, gzipped or zipped file for reading."""
    if path.suffix.lower() == ".gz":
        return gzip.open(path)
    if path.suffix.lower() != ".zip":
        return path.open("rb")
    archive = zipfile.ZipFile(path)
    members = [name for name in archive.namelist() if name.lower().endswith(".csv") and not name.startswith("__MACOSX")]
    if len(members) != 1:
        raise RequestError(f"{path} should hold one CSV file; it holds {', '.join(archive.namelist()[:5]) or 'none'}.")
    return archive.open(members[0])


def _read_csv(path: Path, choose: ChooseColumns) -> ReadTable:
    with closing(_csv_rows(path)) as rows:
        header = next((row for row in rows if not isinstance(row, csv.Error)), [])
    for mark, kind in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if len(header) == 1 and mark in header[0]:
            raise RequestError(f"{path} seems to be separated by {kind}; it should be by commas.")
    try:
        "".join(header).encode()
    except UnicodeEncodeError:
        raise RequestError(f"{path} is not UTF-8, its first line for one: convert it, with iconv say.") from None
    wanted = _choose(path, header, choose)

    try:
        with closing(_open(path)) as file:
            table = pyarrow.csv.read_csv(
                file,
                read_options=pyarrow.csv.ReadOptions(block_size=BLOCK_BYTES),
                parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
                convert_options=pyarrow.csv.ConvertOptions(
                    include_columns=wanted,
                    column_types=dict.fromkeys(wanted, pa.binary()),
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                ),
            )
    except pa.ArrowInvalid:
        table = None
    # Arrow's parser is fast, but stops at a broken row, and takes the end of a file for the end of a quoted text.
    if table is None or _has_odd_quotes(path):
        return _read_csv_with_care(path, header, wanted)
    return table, {}


def _has_odd_quotes(path: Path) -> bool:
    quotes = 0
    with closing(_open(path)) as file:
        while block := file.read(BLOCK_BYTES):
            quotes += block.count(b'"')
    return quotes % 2 == 1


def _read_csv_with_care(path: Path, header: list[str], wanted: list[str]) -> ReadTable:
    """Read a CSV file row by row, each in its place, slower than Arrow by an order of magnitude."""
    places = [header.index(name) for name in wanted]
    columns: list[list[bytes | None]] = [[] for _ in wanted]
    broken: dict[int, str] = {}
    with closing(_csv_rows(path)) as rows:
        next(rows)
        for number, row in enumerate(rows):
            if isinstance(row, csv.Error):
                broken[number] = f"its quotes do not match: {row}"
            elif len(row) != len(header):
                broken[number] = f"{len(row)} columns instead of {len(header)}"
            for column, place in zip(columns, places, strict=True):
                value = None if number in broken else row[place]
                column.append(value.encode("utf-8", "surrogateescape") if value else None)
    return pa.table({name: pa.array(column, pa.binary()) for name, column in zip(wanted, columns, strict=True)}), broken


def _csv_rows(path: Path) -> Iterator[list[str] | csv.Error]:
    """The rows of a CSV file that are not blank, an error in the place of one that is not CSV."""
    csv.field_size_limit(BLOCK_BYTES)
    # Bytes that are not UTF-8 pass through as surrogates: they are the business of whoever wants that column.
    with io.TextIOWrapper(_open(path), encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(_CsvLines(file), strict=True)
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield error
            else:
                if row:
                    yield row


class _CsvLines:
    """Lines of a file, each in bounds: a packed file of some kilobytes can hold one that fills the memory."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def __iter__(self) -> _CsvLines:
        return self

    def __next__(self) -> str:
        line = self._file.readline(BLOCK_BYTES)
        if not line:
            raise StopIteration
        if _is_cut(line):
            _skip_rest_of_line(self._file)
            raise csv.Error(f"a line is longer than {BLOCK_BYTES:,} characters")
        return line


def _is_cut(line: AnyStr) -> bool:
    return len(line) == BLOCK_BYTES and line == line.rstrip("\r\n" if isinstance(line, str) else b"\r\n")


def _skip_rest_of_line(file: IO[AnyStr]) -> None:
    while _is_cut(file.readline(BLOCK_BYTES)):
        pass


def _bounded_lines(file: IO[bytes]) -> Iterator[bytes | None]:
    """Lines that are not blank, None in the place of one that is too long."""
    while line := file.readline(BLOCK_BYTES):
        if _is_cut(line):
            _skip_rest_of_line(file)
            yield None
        elif line.strip():
            yield line


def _read_json_lines(path: Path, choose: ChooseColumns) -> ReadTable:
    records: list[dict[str, object]] = []
    broken: dict[int, str] = {}
    with closing(_open(path)) as file:
        for number, line in enumerate(_bounded_lines(file)):
            try:
                if line is None:
                    raise ValueError(f"its line is longer than {BLOCK_BYTES:,} bytes")
                record = json.loads(line)
                if not isinstance(record, dict):
                    raise ValueError("one JSON object a line is expected")
            except (ValueError, RecursionError) as error:
                record, broken[number] = {}, f"it is not JSON: {one_line(error)}"
            records.append(record)
    if len(broken) == len(records):
        raise RequestError(f"{path} holds no JSON lines: {broken.get(0, 'it is blank')}.")
    wanted = _choose(path, list({name: None for record in records for name in record}), choose)
    columns = {}
    for name in wanted:
        values = []
        for number, record in enumerate(records):
            try:
                values.append(_as_bytes(record.get(name)))
            except TypeError as error:
                values.append(None)
                broken.setdefault(number, f"its `{name}` is {error}")
        columns[name] = pa.array(values, pa.binary())
    return pa.table(columns), broken


def _as_bytes(value: object) -> bytes | None:
    """A JSON value as a CSV file would have it."""
    if value is None:
        return None
    if isinstance(value, str):
        # Half of a surrogate pair is no text: as bytes it will be found not to be UTF-8.
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, bool | int | float):
        return repr(int(value) if isinstance(value, bool) else value).encode()
    raise TypeError("neither text nor a number")


def _read_parquet(path: Path, choose: ChooseColumns) -> ReadTable:
    names = pyarrow.parquet.read_schema(path).names
    return pyarrow.parquet.read_table(path, columns=_choose(path, names, choose)), {}


def _choose(path: Path, names: list[str], choose: ChooseColumns) -> list[str]:
    wanted = choose(names, str(path))
    doubles = [name for name in wanted if names.count(name) > 1]
    if doubles:
        raise RequestError(f"{path} has the column `{doubles[0]}` twice: rename or remove one.")
    return wanted


READERS = {
    ".csv": _read_csv,
    ".csv.gz": _read_csv,
    ".zip": _read_csv,
    ".jsonl": _read_json_lines,
    ".jsonl.gz": _read_json_lines,
    ".json": _read_json_lines,
    ".parquet": _read_parquet,
}
