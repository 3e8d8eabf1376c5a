"""Reader of CSV files with any delimiter; a broken row becomes a row of nulls with a reason."""

from __future__ import annotations

import csv
import io
import logging
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from toxicity.core.console import log_once
from toxicity.core.errors import RequestError
from toxicity.data.readers import csv_blocks
from toxicity.data.readers.base import ChooseColumns, Layout, Part, printable_path
from toxicity.data.readers.csv_blocks import Lines, Parsed
from toxicity.data.readers.encodings import likely_encoding, utf8_stream
from toxicity.data.readers.packings import Opened

# A comma where as many columns result from it as from another one.
DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
# The first line that Excel writes into a file, to read it again wherever it is.
EXCEL_DELIMITER = re.compile(r'"?sep=(?P<delimiter>[^"\r\n])"?\s*', re.IGNORECASE)
# How many rows below the header tell whether rows have names.
FIRST_ROWS = 10
BEGINNING_BYTES = 2**20
# Names of columns that count the rows: below one of them numbers are its cells and no names of rows.
NAMES_OF_NUMBERS = re.compile(r"(.*id|index|no|nr|number|row|unnamed.*|)\W*", re.IGNORECASE)


class Table(NamedTuple):
    """How the rows of a file are divided into cells."""

    delimiter: str
    names: list[str]  # of the columns; empty where a column has none
    start: int  # where the rows begin below the header
    rows_have_names: bool = False  # whether there is no name above the first cells, which count the rows


def read_csv(source: Opened, path: Path, choose: ChooseColumns, layout: Layout) -> Iterator[Part]:
    """Read a file in parts of one block each; values come as bytes.

    Several blocks are parsed at once, in threads; a part is the next one in the file, in whichever order they finish.

    Raises:
        RequestError: if the first row is not UTF-8, or its quotes do not match.
    """
    file = utf8_stream(source, path, layout.encoding)
    held = file.read(BEGINNING_BYTES)
    table = _table_of(held, layout.delimiter, path)
    wanted = choose(table.names, str(path))
    places = {name: table.names.index(column) for name, column in wanted.items()}
    yield Part(pa.table({name: pa.array([], pa.binary()) for name in places}), {}, 0.0)

    threads = min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    parsing: deque[tuple[Future[Parsed], float]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for block in csv_blocks.blocks(held[table.start :], file, table.delimiter):
                parsed = pool.submit(csv_blocks.parse, block, table.delimiter, len(table.names), places)
                parsing.append((parsed, source.share()))
                if len(parsing) > threads:
                    yield _next_part(parsing)
            while parsing:
                yield _next_part(parsing)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _next_part(parsing: deque[tuple[Future[Parsed], float]]) -> Part:
    parsed, share = parsing.popleft()
    return Part(*parsed.result(), share)


def _table_of(beginning: bytes, delimiter: str | None, path: Path) -> Table:
    """Find the delimiter, the header and the names of rows in the first bytes of a file."""
    first_line = next(Lines(beginning, io.BytesIO()), None) or b""
    excel = EXCEL_DELIMITER.fullmatch(first_line.decode("utf-8", "surrogateescape"))
    if excel:
        delimiter, beginning = delimiter or excel["delimiter"], beginning[len(first_line) :]
    start = len(first_line) if excel else 0
    tables = [_divided(beginning, each) for each in ([delimiter] if delimiter else DELIMITERS)]
    # The first of those with most columns.
    table = max(tables, key=lambda table: -1 if isinstance(table, csv.Error) else len(table.names))
    if not delimiter and (isinstance(table, csv.Error) or len(table.names) < 2):
        # R separates by spaces, which texts contain: only names of rows tell such a file from another one.
        by_spaces = _divided(beginning, " ")
        if isinstance(by_spaces, Table) and by_spaces.rows_have_names:
            table = by_spaces
    if isinstance(table, csv.Error):
        raise RequestError(f"{printable_path(path)} is not CSV: the quotes of its first row do not match ({table}).")
    try:
        "".join(table.names).encode()
    except UnicodeEncodeError:
        likely = likely_encoding(path)
        remedy = f"it seems to be {likely}: give --encoding {likely}" if likely else "name its encoding: --encoding"
        raise RequestError(f"{printable_path(path)} is not UTF-8, its first line for one; {remedy}.") from None
    if not delimiter and table.delimiter not in ",\t":
        kind = DELIMITERS.get(table.delimiter, "spaces")
        log_once(logging.INFO, f"Columns are separated by {kind}, going by the first line of a file.")
    if table.rows_have_names:
        log_once(
            logging.INFO,
            "The first cell of a row is taken for the row's name, as the header has one cell less than the rows.",
        )
    return table._replace(start=start + table.start)


def _divided(beginning: bytes, delimiter: str) -> Table | csv.Error:
    """The header and where it ends, if the cells are divided by this delimiter."""
    lines = Lines(beginning, io.BytesIO())
    rows = csv_blocks.rows(lines, delimiter, len(beginning))
    header = next(rows, [])
    if isinstance(header, csv.Error):
        return header
    table = Table(delimiter, header, lines.taken)
    first = list(islice(rows, FIRST_ROWS))
    if not first or any(isinstance(row, csv.Error) or len(row) != len(header) + 1 for row in first):
        return table
    if not any(row[-1] for row in first):
        return table._replace(names=[*header, ""])  # there is a delimiter behind the last cell, too
    # A delimiter may also be part of a text without quotes; names of rows are certain where these are written, and
    # where so many rows count up.
    quoted = beginning.lstrip().startswith(b'"') and len(first) > 1
    many = len(header) > 1 and len(first) == FIRST_ROWS and not NAMES_OF_NUMBERS.fullmatch(header[0].strip())
    if _count_up(row[0] for row in first) and (quoted or many):
        return table._replace(names=["", *header], rows_have_names=True)
    return table


def _count_up(cells: Iterable[str]) -> bool:
    """Whether these are whole numbers, each the next one, from 0 or 1 on."""
    cells = list(cells)
    return any(cells == [str(number) for number in range(first, first + len(cells))] for first in (0, 1))
