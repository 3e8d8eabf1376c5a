"""Files of comments → Arrow tables in which every row of the files has its place, also those that are broken."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import IO, AnyStr, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from toxicity.errors import RequestError
from toxicity.schema import TEXT
from toxicity.spool import spooled

# No comment is longer, by far.
LONGEST_FIELD_BYTES = 2**24
# Arrow reads up to 32 blocks ahead, so they should be small; what does not fit into one is read with care instead.
BLOCK_BYTES = 2**21
ROWS_PER_BATCH = 2**16
LINE_TOO_LONG = f"its line is longer than {BLOCK_BYTES:,} bytes"
TEXT_TYPES = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)

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

    parts = spooled(read())
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
    for lines in chain(_batched(_bounded_lines(file), Limit(rows, max_bytes), _length), [[]]):
        table = _text_table([(line and line.rstrip(b"\r\n")) or None for line in lines])
        yield Part(table, {row: LINE_TOO_LONG for row, line in enumerate(lines) if line is None}, float(not lines))


def is_readable(name: str) -> bool:
    """Whether a file of this name can be read, going by its ending."""
    return _reader_of(name) is not None


def one_line(error: BaseException) -> str:
    """The message of an error of another library, on one line of at most 200 characters."""
    return " ".join(str(error).split())[:200]


def _text_table(lines: list[bytes | None]) -> pa.Table:
    return pa.table({TEXT: pa.array(lines, pa.binary())})


def _batched(items: Iterator[T], limit: Limit | None, size: Callable[[T], int]) -> Iterator[list[T]]:
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


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], Callable[[], float]]]:
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


def _read_csv(path: Path, choose: ChooseColumns, limit: Limit | None) -> Iterator[Part]:
    with _opened(path) as (file, _):
        header = next((row for row in _csv_rows(file) if not isinstance(row, csv.Error)), [])
    for mark, kind in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if len(header) == 1 and mark in header[0]:
            raise RequestError(f"{path} seems to be separated by {kind}; it should be by commas.")
    try:
        "".join(header).encode()
    except UnicodeEncodeError:
        raise RequestError(f"{path} is not UTF-8, its first line for one: convert it, with iconv say.") from None
    wanted = _choose(path, header, choose)

    # Arrow's parser is fast, but stops at a broken row, and takes the end of a file for the end of a quoted text.
    # It reads all of the file or nothing: the two parsers need not agree on which row a broken file is in.
    if _arrow_can_read(path, wanted) and not _has_odd_quotes(path):
        with _opened(path) as (file, share), _arrow_reader(file, wanted) as batches:
            yield Part(batches.schema.empty_table(), {}, 0.0)
            for batch in batches:
                yield Part(pa.Table.from_batches([batch]), {}, share())
    else:
        yield from _read_csv_with_care(path, header, wanted, limit)


def _arrow_reader(file: IO[bytes], wanted: list[str]) -> pyarrow.csv.CSVStreamingReader:
    return pyarrow.csv.open_csv(
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


def _arrow_can_read(path: Path, wanted: list[str]) -> bool:
    try:
        with _opened(path) as (file, _), _arrow_reader(file, wanted) as batches:
            for _ in batches:
                pass
    except pa.ArrowInvalid:
        return False
    return True


def _has_odd_quotes(path: Path) -> bool:
    quotes = 0
    with _opened(path) as (file, _):
        while block := file.read(BLOCK_BYTES):
            quotes += block.count(b'"')
    return quotes % 2 == 1


def _read_csv_with_care(path: Path, header: list[str], wanted: list[str], limit: Limit | None) -> Iterator[Part]:
    """Read a CSV file row by row, each in its place, slower than Arrow by an order of magnitude."""
    places = [header.index(name) for name in wanted]
    with _opened(path) as (file, share):
        lines = _csv_rows(file)
        next(lines)
        for batch in chain([[]], _batched(lines, limit, _length_of_row)):
            columns: list[list[bytes | None]] = [[] for _ in wanted]
            broken: dict[int, str] = {}
            for number, row in enumerate(batch):
                if isinstance(row, csv.Error):
                    broken[number] = f"its quotes do not match: {row}"
                elif len(row) != len(header):
                    broken[number] = f"{len(row)} columns instead of {len(header)}"
                for column, place in zip(columns, places, strict=True):
                    value = None if number in broken else row[place]
                    column.append(value.encode("utf-8", "surrogateescape") if value else None)
            arrays = [pa.array(column, pa.binary()) for column in columns]
            yield Part(pa.table(arrays, names=wanted), broken, share())


def _length_of_row(row: list[str] | csv.Error) -> int:
    return 0 if isinstance(row, csv.Error) else sum(map(len, row))


def _csv_rows(file: IO[bytes]) -> Iterator[list[str] | csv.Error]:
    """The rows of a CSV file, an error in the place of one that is not CSV.

    A line with nothing in it is no row, as pandas and Arrow have it too, also where the file has one column.
    """
    csv.field_size_limit(LONGEST_FIELD_BYTES)
    # Bytes that are not UTF-8 pass through as surrogates: they are the business of whoever wants that column.
    with io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        reader = csv.reader(_CsvLines(text), strict=True)
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
    """The lines of a file, None in the place of one that is too long."""
    while line := file.readline(BLOCK_BYTES):
        if _is_cut(line):
            _skip_rest_of_line(file)
            yield None
        else:
            yield line


def _length(line: bytes | None) -> int:
    return len(line or b"")


def _read_json_lines(path: Path, choose: ChooseColumns, limit: Limit | None) -> Iterator[Part]:
    wanted = None
    with _opened(path) as (file, share):
        lines = (line for line in _bounded_lines(file) if line is None or line.strip())
        for batch in _batched(lines, limit, _length):
            records, broken = _parse_lines(batch)
            if wanted is None:
                if len(broken) == len(records):
                    raise RequestError(f"{path} holds no JSON lines: {broken[0]}.")
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
            yield Part(pa.table(columns), broken, share())
    if wanted is None:
        raise RequestError(f"{path} holds no JSON lines: it is blank.")


def _parse_lines(lines: list[bytes | None]) -> tuple[list[dict[str, object]], dict[int, str]]:
    """One record a line, an empty one where it is broken, and why those are."""
    records: list[dict[str, object]] = []
    broken: dict[int, str] = {}
    for number, line in enumerate(lines):
        try:
            if line is None:
                raise ValueError(LINE_TOO_LONG)
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError("one JSON object a line is expected")
        except (ValueError, RecursionError) as error:
            record, broken[number] = {}, f"it is not JSON: {one_line(error)}"
        records.append(record)
    return records, broken


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


def _read_parquet(path: Path, choose: ChooseColumns, limit: Limit | None) -> Iterator[Part]:
    # The buffer keeps it from taking a whole row group, which may be the whole file, into memory.
    with pyarrow.parquet.ParquetFile(path, buffer_size=BLOCK_BYTES) as file:
        wanted = _choose(path, file.schema_arrow.names, choose)
        yield Part(file.schema_arrow.empty_table().select(wanted), {}, 0.0)
        read = 0
        rows = ROWS_PER_BATCH if limit is None else min(limit.rows, _rows_that_fit(file.metadata, limit.bytes))
        for batch in file.iter_batches(rows, columns=wanted):
            read += len(batch)
            yield Part(pa.Table.from_batches([batch]).select(wanted), {}, read / file.metadata.num_rows)


def _rows_that_fit(metadata: pyarrow.parquet.FileMetaData, max_bytes: int) -> int:
    """How many rows take so many bytes, in the row group with the longest ones; one at least."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    longest = max((group.total_byte_size / max(1, group.num_rows) for group in groups), default=0)
    return max(1, int(max_bytes / max(1, longest)))


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
