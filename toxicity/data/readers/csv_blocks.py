"""Rows of a CSV file in one pass: regular blocks for Arrow's parser, and for Python's what it alone can go on after."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterator
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from toxicity.data.readers import base

# What is looked at in one go; a row that is longer is for Python's parser.
WINDOW_BYTES = 2**21
# After a row that is not regular Python's parser reads so many bytes, and twice as many each time the next is not.
STRETCH_BYTES = 2**16

# Possessive, as a long line without an end would be gone through once more backwards.
LINE = re.compile(rb"[^\r\n]*+(\r\n?|\n)")
QUOTE = 0x22
# Delimiters that hardly any comment contains, so that some programs write them without quoting.
UNQUOTED = ("\t", "|")
csv.field_size_limit(2**24)  # far longer than any comment

Row = list[str] | csv.Error
# A table, and the reason for each broken row by its number.
Parsed = tuple[pa.Table, dict[int, str]]


def blocks(held: bytes, file: IO[bytes], delimiter: str) -> Iterator[memoryview | list[Row]]:
    """Divide a file between rows: into bytes that Arrow can read unless a row is too short or long, and other rows.

    Args:
        held: what was read of the file already, from the beginning of a row on.
        file: the rest; `read` and `readinto` take as many bytes as are asked for, except at the end.
        delimiter: one character.
    """
    ended, stretch = False, STRETCH_BYTES
    while True:
        window, rest = bytearray(WINDOW_BYTES), held[WINDOW_BYTES:]
        size = min(len(held), WINDOW_BYTES)
        window[:size] = held[:size]
        if not ended and size < WINDOW_BYTES:
            size += file.readinto(memoryview(window)[size:])
            ended = size < WINDOW_BYTES
        del window[size:]
        if not window:
            return
        end = regular_end(window, delimiter, is_last=ended and not rest)
        if end:
            yield memoryview(window)[:end]
            held, stretch = bytes(memoryview(window)[end:]) + rest, STRETCH_BYTES
        else:
            lines = Lines(bytes(window) + rest, file)
            yield list(rows(lines, delimiter, stretch))
            held, stretch = lines.rest(), min(2 * stretch, base.BLOCK_BYTES)
            ended = ended or lines.ended


def regular_end(window: bytes | bytearray, delimiter: str, is_last: bool) -> int:
    """Where the last row ends, from the first on, up to which all quotes match; 0 if that is nowhere.

    Args:
        window: bytes from the beginning of a row on.
        delimiter: one character.
        is_last: whether the file ends with the window.
    """
    if not delimiter.isascii() or window.startswith(b"\xef\xbb\xbf"):
        return 0  # Arrow takes delimiters of one byte only, and would drop a U+FEFF here as a byte order mark
    quotes, stop = _matching_quotes(window, b"\n\r" + delimiter.encode())
    if is_last and stop == len(window):
        return stop
    # Rows end between quoted cells: from the last such cell back.
    for closer in range(len(quotes) - 1, -2, -2):
        start = int(quotes[closer]) + 1 if closer > 0 else 0
        if end := 1 + max(window.rfind(b"\n", start, stop), window.rfind(b"\r", start, stop)):
            return end
        stop = int(quotes[closer - 1]) if closer > 0 else 0
    return 0


def _matching_quotes(window: bytes | bytearray, borders: bytes) -> tuple[np.ndarray, int]:
    """The places of the quotes that by turns open and close cells, and how far they match; it is outside of quotes.

    Mostly, each quote by turns opens a cell at its beginning or closes it at its end, or two of them stand for one in
    the text, which may be seen as the end of a cell and the beginning of another. Then all of them are looked at
    together. From the first on that stands elsewhere, as in `5" nail`, they are looked at one by one.

    Args:
        window: bytes from the beginning of a row on.
        borders: the bytes that may stand before and behind a cell.
    """
    data = np.frombuffer(window, np.uint8)
    quotes = np.flatnonzero(data == QUOTE)
    beside = np.zeros(256, dtype=bool)
    beside[[*list(borders), QUOTE]] = True
    neighbours = quotes + np.where(np.arange(len(quotes)) % 2, 1, -1)
    fine = beside[data[neighbours.clip(0, len(data) - 1)]] | (neighbours < 0) | (neighbours == len(data))
    if fine.all() and len(quotes) % 2 == 0:
        return quotes, len(window)
    # From the beginning of the cell on in which the first quote that is not fine stands, or the last one.
    start = (len(quotes) - 1 if fine.all() else int(np.argmin(fine))) // 2 * 2
    while start and quotes[start - 1] == quotes[start] - 1:
        start -= 2
    others, found, stop, number = quotes[start:].tolist(), [], len(window), 0
    while number < len(others):
        opener = others[number]
        number += 1
        if opener and window[opener - 1] not in borders:
            continue  # it stands for itself in a cell without quotes
        while number < len(others) and window[others[number] + 1 : others[number] + 2] == b'"':
            number += 2
        end = others[number] + 1 if number < len(others) else None
        if end is None or (end < len(window) and window[end] not in borders):
            stop = opener  # the closing quote is missing, or there is more behind it
            break
        found += [opener, end - 1]
        number += 1
    return np.concatenate([quotes[:start], np.array(found, dtype=quotes.dtype)]), stop


class Lines:
    """The lines of a file, None for one that is longer than a block; they end in `\\n`, `\\r` or both."""

    def __init__(self, held: bytes, file: IO[bytes]) -> None:
        """Begin with the bytes `held`, and go on with the file."""
        self._held, self._file, self._at = held, file, 0
        self.taken, self.ended = 0, False

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> bytes | None:
        skipped = 0
        while (match := LINE.match(self._held, self._at)) is None and not self.ended:
            if len(self._held) - self._at > base.BLOCK_BYTES:
                skipped += len(self._held) - self._at
                self._at = len(self._held)
            more = self._file.read(base.BLOCK_BYTES)
            self.ended = len(more) < base.BLOCK_BYTES
            self._held, self._at = self._held[self._at :] + more, 0
        line = match[0] if match else self._held[self._at :]
        if not line and not skipped:
            raise StopIteration
        self._at += len(line)
        self.taken += skipped + len(line)
        return None if skipped or len(line.rstrip(b"\r\n")) > base.BLOCK_BYTES else line

    def rest(self) -> bytes:
        """What was read of the file beyond the last line."""
        return self._held[self._at :]


def rows(lines: Lines, delimiter: str, least: int) -> Iterator[Row]:
    """Rows as Python's strict parser reads them, of at least so many bytes; the error in place of each that is broken.

    An empty line is not a row, even in a file of one column; pandas and Arrow do the same.
    """
    # `map` goes on after an error, as a generator would not.
    reader = csv.reader(map(_as_text, lines), delimiter=delimiter, strict=True)
    while lines.taken < least:
        start = reader.line_num
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            # A quote without an end takes rows with it, up to the next one or the end of the file.
            taken = reader.line_num - start
            yield csv.Error(f"{error}, in {taken:,} lines taken for one row") if taken > 1 else error
        else:
            if row:
                yield row


def _as_text(line: bytes | None) -> str:
    if line is None:
        raise csv.Error(f"a line is longer than {base.BLOCK_BYTES:,} bytes")
    # Bytes that are not UTF-8 pass through as surrogates, as they may be in a column that is not read.
    return line.decode("utf-8", "surrogateescape")


def parse(block: memoryview | list[Row], delimiter: str, width: int, places: dict[str, int]) -> Parsed:
    """The rows of a block as a table of bytes, and the reason for each broken row by its number.

    A row may be short of cells, which are then null, and may have empty ones beyond its width.

    Args:
        block: as `blocks` divides a file.
        delimiter: one character.
        width: number of cells of a row.
        places: name of each column to read → number of its cell.
    """
    if isinstance(block, memoryview):
        names = [str(place) for place in range(width)]
        wanted = [str(place) for place in places.values()]
        try:
            table = pyarrow.csv.read_csv(
                pa.BufferReader(pa.py_buffer(block)),
                pyarrow.csv.ReadOptions(use_threads=False, block_size=len(block) + 1, column_names=names),
                pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
                pyarrow.csv.ConvertOptions(
                    include_columns=wanted,
                    column_types=dict.fromkeys(wanted, pa.binary()),
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=True,
                ),
            )
            return _without_merged_rows(table.rename_columns(list(places)), {}, delimiter, width, places)
        except pa.ArrowInvalid:  # a row is too short or too long, or the block is one blank line
            block = list(rows(Lines(bytes(block), io.BytesIO()), delimiter, len(block)))
    columns: dict[str, list[bytes | None]] = {name: [] for name in places}
    broken: dict[int, str] = {}
    short: set[int] = set()
    for number, row in enumerate(block):
        if isinstance(row, csv.Error):
            broken[number] = f"its quotes do not match: {row}"
        elif len(row) > width and any(row[width:]):
            broken[number] = f"{len(row)} columns instead of {width}"
        elif len(row) < width:
            short.add(number)
        for name, place in places.items():
            value = None if number in broken or place >= len(row) else row[place]
            columns[name].append(value.encode("utf-8", "surrogateescape") if value else None)
    arrays = {name: pa.array(values, pa.binary()) for name, values in columns.items()}
    return _without_merged_rows(pa.table(arrays), broken, delimiter, width, places, short)


def _without_merged_rows(
    table: pa.Table,
    broken: dict[int, str],
    delimiter: str,
    width: int,
    places: dict[str, int],
    short: Collection[int] = (),
) -> Parsed:
    """The same rows; those are broken of which a cell holds rows that should have been rows of their own.

    Many programs write tabs without quoting: there a comment that begins with a quote takes all that follows into its
    cell, up to a comment that ends with one. Such a cell has as many delimiters in each line as the rows have, and the
    rest of the last row follows it: none of the rows that are `short` of cells is one of these.
    """
    if delimiter not in UNQUOTED:
        return table, broken
    mark, found = delimiter.encode(), {}
    for name, place in places.items():
        column = table[name]
        lines = pc.and_(pc.match_substring(column, mark), pc.match_substring_regex(column, b"[\r\n]"))
        for row in np.flatnonzero(pc.fill_null(lines, False).to_numpy(zero_copy_only=False)).tolist():
            if row in short or row in found:
                continue
            first, *whole, last = [line.count(mark) for line in re.split(rb"\r\n?|\n", column[row].as_py())]
            if first == width - 1 - place and last == place and {*whole} <= {width - 1}:
                found[row] = f"its quotes take {len(whole) + 2} rows for one: double the quotes, or remove them"
    if found:
        kept = pa.array([row not in found for row in range(len(table))])
        table = pa.table({name: pc.if_else(kept, table[name], None) for name in table.column_names})
    return table, dict(sorted((broken | found).items()))
