"""Reader of CSV files, plain, gzipped or zipped; a broken row becomes a row of nulls with a reason."""

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
from toxicity.data.readers.base import BLOCK_BYTES, ChooseColumns, Limit, Part, batched, bounded_lines, opened


def read_csv(path: Path, choose: ChooseColumns, limit: Limit | None) -> Iterator[Part]:
    """Read a file in parts: by Arrow in blocks of its own size if it can read the file, else row by row.

    Values come as bytes. The limit is for parts that are read row by row.

    Raises:
        RequestError: if the columns are not separated by commas, or the first line is not UTF-8.
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
    wanted = choose(header, str(path))

    # Arrow reads the whole file or none of it, as the two parsers may count the rows of a broken file differently.
    if _arrow_can_read(path, wanted):
        with opened(path) as (file, share), _arrow_reader(file, wanted) as batches:
            yield Part(batches.schema.empty_table(), {}, 0.0)
            for batch in batches:
                yield Part(pa.Table.from_batches([batch]), {}, share())
    else:
        yield from _read_row_by_row(path, header, wanted, limit)


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
    """Whether all rows are whole, so that Arrow's fast parser can read them: it stops at a broken row."""
    try:
        with opened(path) as (file, _), _arrow_reader(file, wanted) as batches:
            for _ in batches:
                pass
    except pa.ArrowInvalid:
        return False
    # Arrow accepts a file that ends inside a quoted text, where a quote is missing.
    with opened(path) as (file, _):
        return sum(block.count(b'"') for block in iter(lambda: file.read(BLOCK_BYTES), b"")) % 2 == 0


def _read_row_by_row(path: Path, header: list[str], wanted: list[str], limit: Limit | None) -> Iterator[Part]:
    """Read a file with Python's parser, which goes on after a broken row; ten times slower than Arrow."""
    places = [header.index(name) for name in wanted]
    with opened(path) as (file, share):
        lines = _csv_rows(file)
        next(lines)
        for batch in chain([[]], batched(lines, limit, lambda row: sum(map(len, row)) if isinstance(row, list) else 0)):
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


def _csv_rows(file: IO[bytes]) -> Iterator[list[str] | csv.Error]:
    """The rows of a CSV file, with the error in place of each row that is not CSV.

    An empty line is not a row, even in a file of one column; pandas and Arrow do the same.
    """
    csv.field_size_limit(2**24)  # far longer than any comment
    # Bytes that are not UTF-8 pass through as surrogates, as they may be in a column that is not read.
    with io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        # `map` goes on after an error, as a generator would not.
        reader = csv.reader(map(_require_bounded, bounded_lines(text)), strict=True)
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


def _require_bounded(line: str | None) -> str:
    if line is None:
        raise csv.Error(f"a line is longer than {BLOCK_BYTES:,} characters")
    return line
