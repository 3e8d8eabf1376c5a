"""What the readers of all formats share: parts of files, limits on their size, lines of bounded length, unions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple, TypeVar

import pyarrow as pa

from toxicity.core.console import printable
from toxicity.core.errors import RequestError, one_line

# Files are read in blocks of this size, several at a time. A line of a text file may be as long and no longer.
BLOCK_BYTES = 2**22

# Takes the column names of a file, and the file's name for messages; returns the columns to read: canonical name →
# name in the file. The tables that are read have the canonical names, in this order.
ChooseColumns = Callable[[list[str], str], dict[str, str]]


class Layout(NamedTuple):
    """How files of text are laid out, where that is not to be found out from their first bytes."""

    delimiter: str | None = None  # what separates the columns of a CSV file, one character
    encoding: str | None = None  # a name that Python knows
    txt_holds_lines: bool = False  # whether a `.txt` file is one comment a line, and not a table


class Part(NamedTuple):
    """Consecutive rows of a file.

    `broken` gives the reason for each row of the table that could not be read, by its number from 0; such a row is
    null in all columns. `share` is the fraction of the file that has been read by the end of the part.
    """

    table: pa.Table
    broken: dict[int, str]
    share: float


class Limit(NamedTuple):
    """The most that a part may hold: rows, and bytes of text; a single row may have more bytes."""

    rows: int
    bytes: int


T = TypeVar("T")


def batched(items: Iterator[T], limit: Limit, size: Callable[[T], int]) -> Iterator[list[T]]:
    """Group items of `size` bytes into lists, each ending with the item that reaches the limit."""
    batch, taken = [], 0
    for item in items:
        batch.append(item)
        taken += size(item)
        if len(batch) == limit.rows or taken >= limit.bytes:
            yield batch
            batch, taken = [], 0
    if batch:
        yield batch


def text_as_bytes(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """A column of text of any Arrow type as bytes; None if it is no text."""
    types = pa.types
    texts = (types.is_string, types.is_large_string, types.is_string_view)
    binaries = (types.is_binary, types.is_large_binary, types.is_binary_view)
    if not any(test(column.type) for test in (*texts, *binaries, types.is_null)):
        return None
    return column.cast(pa.large_binary())


def union_of(tables: Sequence[pa.Table], names: Sequence[str] = ()) -> pa.Table:
    """All rows of tables in their order, with every column that one of them has, null where a table lacks it.

    Types are promoted to one that holds all values: whole numbers become fractions where others are. Where there is
    none, as for numbers and text, the column becomes text.

    Args:
        tables: one at least.
        names: what each table was read from, for the message.

    Raises:
        RequestError: if a column is text or a number in one table, and a list or a structure in another.
    """
    union = None
    for name in dict.fromkeys(name for table in tables for name in table.column_names):
        kind = _common_type(name, tables, names)
        try:
            column = _joined(name, tables, kind)
        except pa.ArrowException:  # a value is beyond the common type, as whole numbers without a sign may be
            column = _joined_as_text(name, tables)
        union = column if union is None else union.append_column(name, column[name])
    return tables[0] if union is None else union


def _common_type(column: str, tables: Sequence[pa.Table], names: Sequence[str]) -> pa.DataType:
    # A table without rows says nothing about its types, unless there is no other one.
    having = [number for number, table in enumerate(tables) if column in table.column_names]
    filled = [number for number in having if len(tables[number])]
    found = {tables[number].schema.field(column).type: number for number in filled or having}
    types = list(found)
    if len(types) == 1:
        return types[0]
    try:
        schemas = [pa.schema([pa.field(column, kind)]) for kind in types]
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except pa.ArrowException:
        nested = next((kind for kind in types if pa.types.is_nested(kind)), None)
        if nested is None:
            return pa.large_binary()
        other = next(kind for kind in types if kind != nested)
        where = [f" in {names[found[kind]]}" if names else "" for kind in (nested, other)]
        raise RequestError(
            f"the column `{column}` is {nested}{where[0]} and {other}{where[1]}: make them alike."
        ) from None


def _joined(name: str, tables: Sequence[pa.Table], kind: pa.DataType) -> pa.Table:
    """A column of all tables in one type, as a table."""
    parts = []
    for table in tables:
        if name not in table.column_names:
            parts.append(pa.table({name: pa.nulls(len(table), kind)}))
        elif table[name].type == kind:
            # Not made anew: that would look into every column, which brings much of a mapped file into the memory.
            parts.append(table.select([name]))
        elif len(table):
            column = table[name]
            if pa.types.is_large_binary(kind) and text_as_bytes(column) is None:
                column = column.cast(pa.string())
            # Safe, as whole numbers beyond 2**53, such as the ids of tweets, would become others as fractions.
            parts.append(pa.table({name: column.cast(kind)}))
    return pa.concat_tables(parts, promote_options="default")


def _joined_as_text(name: str, tables: Sequence[pa.Table]) -> pa.Table:
    try:
        return _joined(name, tables, pa.large_binary())
    except pa.ArrowException as error:
        raise RequestError(f"the column `{name}` is of several types: {one_line(error)}. Make them alike.") from error


def bounded_lines(file: IO[bytes]) -> Iterator[bytes | None]:
    """The lines of a file, with None for each line longer than `BLOCK_BYTES`, which might not fit into the memory."""
    while line := file.readline(BLOCK_BYTES):
        if _is_cut(line):
            while _is_cut(file.readline(BLOCK_BYTES)):
                pass
            yield None
        else:
            yield line


def line_too_long() -> str:
    """The reason for a row whose line is None."""
    return f"its line is longer than {BLOCK_BYTES:,} bytes"


def _is_cut(line: bytes) -> bool:
    """Whether `readline(BLOCK_BYTES)` returned only the beginning of a line."""
    return len(line) == BLOCK_BYTES and not line.endswith(b"\n")


def printable_path(path: Path | str) -> str:
    """A path as it can be printed: bytes of a name that are not UTF-8 become escapes."""
    return printable(str(path), width=4096)
