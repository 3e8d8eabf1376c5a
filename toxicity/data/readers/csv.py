"""CSV files, plain, gzipped or zipped, in which a broken row keeps its place."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.csv

from toxicity.core.errors import RequestError
from toxicity.data.readers.base import (
    BLOCK_BYTES,
    ChooseColumns,
    Limit,
    Part,
    batched,
    choose_columns,
    is_cut,
    opened,
    skip_rest_of_line,
)

# No comment is longer, by far.
LONGEST_FIELD_BYTES = 2**24


def read_csv(path: Path, choose: ChooseColumns, limit: Limit | None) -> Iterator[Part]:
    """A file in parts, of whatever size suits its format, row by row within the limit if there is one.

    Raises:
        RequestError: for what is not separated by commas, or has a first line that is not UTF-8.
    """
    with opened(path) as (file, _):
        header = next((row for row in _csv_rows(file) if not isinstance(row, csv.Error)), [])
    for mark, kind in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if len(header) == 1 and mark in header[0]:
            raise RequestError(f"{path} seems to be separated by {kind}; it should be by commas.")
    try:
        "".join(header).encode()
    except UnicodeEncodeError:
        raise RequestError(f"{path} is not UTF-8, its first line for one: convert it, with iconv say.") from None
    wanted = choose_columns(path, header, choose)

    # Arrow's parser is fast, but stops at a broken row, and takes the end of a file for the end of a quoted text.
    # It reads all of the file or nothing: the two parsers need not agree on which row a broken file is in.
    if _arrow_can_read(path, wanted) and not _has_odd_quotes(path):
        with opened(path) as (file, share), _arrow_reader(file, wanted) as batches:
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
        with opened(path) as (file, _), _arrow_reader(file, wanted) as batches:
            for _ in batches:
                pass
    except pa.ArrowInvalid:
        return False
    return True


def _has_odd_quotes(path: Path) -> bool:
    quotes = 0
    with opened(path) as (file, _):
        while block := file.read(BLOCK_BYTES):
            quotes += block.count(b'"')
    return quotes % 2 == 1


def _read_csv_with_care(path: Path, header: list[str], wanted: list[str], limit: Limit | None) -> Iterator[Part]:
    """Read a CSV file row by row, each in its place, slower than Arrow by an order of magnitude."""
    places = [header.index(name) for name in wanted]
    with opened(path) as (file, share):
        lines = _csv_rows(file)
        next(lines)
        for batch in chain([[]], batched(lines, limit, _length_of_row)):
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
        if is_cut(line):
            skip_rest_of_line(self._file)
            raise csv.Error(f"a line is longer than {BLOCK_BYTES:,} characters")
        return line
