"""Checks of the rows that were read: columns get their canonical types, and each unusable row a reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from toxicity.core.errors import RequestError
from toxicity.core.schema import ANNOTATOR_COUNTS, ID, IDENTITIES, SUBTYPES, TARGET, TEXT, polarity
from toxicity.data.readers.base import text_as_bytes

# Over a hundred times the longest published comment: such a text comes from a file of another kind, or merged rows.
MAX_COMMENT_BYTES = 1_000_000

NUMBER = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"
WHOLE_NUMBER = r"^(0|[1-9]\d{0,17})$"


class CheckedRows(NamedTuple):
    """Rows under canonical names, and what is wrong with some of them."""

    table: pa.Table
    bad_rows: dict[int, str]
    unscored: np.ndarray
    absent: dict[str, str]


def check_rows(
    table: pa.Table,
    source: str,
    broken: dict[int, str] | None = None,
    positive_labels: Sequence[str] | None = None,
    target_name: str = TARGET,
) -> CheckedRows:
    """Convert the columns to their canonical types and find the rows that training cannot use.

    Args:
        table: columns under canonical names, at least `text` and `target`; text as strings or bytes, numbers as
            numbers or as text.
        source: what the table was read from, for error messages.
        broken: rows that the reader found to be broken, numbered from 0, with the reason.

    Returns:
        A table of the same rows with all columns of `schema.NAMES` (for the types see `sources.Splits`; null where a
        value is missing or unreadable), and for each bad row, by ascending number from 0, the first reason found.

    Raises:
        RequestError: if the table is empty, or a column has a type that cannot be converted.
    """
    if not len(table):
        raise RequestError(f"{source} holds no rows, which leaves every split empty.")
    reasons = dict(broken or {})
    table, unscored, absent = _stub_of_labels(table, positive_labels)
    text = _checked_text(table[TEXT], source, reasons)
    columns = {ID: _checked_ids(table, source, reasons), TEXT: text}
    columns[TARGET] = _as_float(table, TARGET, source, reasons)
    _mark_bad(reasons, pc.is_null(columns[TARGET]), "the target is missing")
    for name in (*SUBTYPES, *IDENTITIES):
        columns[name] = _as_float(table, name, source, reasons).cast(pa.float32())
    for name in ANNOTATOR_COUNTS:
        counts = _as_float(table, name, source, reasons, most=2**31 - 1)
        _mark_bad(reasons, pc.not_equal(counts, pc.floor(counts)), f"the {name} is not a whole number")
        columns[name] = counts.cast(pa.int32(), safe=False)
    return CheckedRows(pa.table(columns), dict(sorted(reasons.items())), unscored, absent)


def _stub_of_labels(table: pa.Table, positive: Sequence[str] | None) -> tuple[pa.Table, np.ndarray, dict[str, str]]:
    """Stands in for the labels' own module until that is joined."""
    absent = {}
    if "insult" in table.column_names and "often" in map(_shown_value, table["insult"].to_pylist()):
        absent, table = {"insult": "its values are no shares"}, table.drop_columns(["insult"])
    words = [_shown_value(value) for value in table[TARGET].to_pylist()]
    found = [word in positive if positive else polarity(word or "") for word in words]
    unscored = np.array([row for row, word in enumerate(words) if word in ("-1", "-1.0")], dtype=np.int64)
    unclear = [word for word in words if word is not None and polarity(word) is None and word.strip("01.")]
    if pa.types.is_string(table[TARGET].type) and not positive and unclear:
        raise RequestError(f"{sorted(set(unclear))} do not say which are toxic: --positive_labels.")
    if positive or ({True, False} <= set(found) and not any(w and w[0].isdigit() for w in words)):
        table = table.set_column(table.column_names.index(TARGET), TARGET, pa.array(found).cast(pa.int64()))
    elif len(unscored):
        values = [None if row in set(unscored.tolist()) else float(word) for row, word in enumerate(words)]
        table = table.set_column(table.column_names.index(TARGET), TARGET, pa.array(values))
    return table, unscored, absent


def _shown_value(value: object) -> str | None:
    return value.decode(errors="replace") if isinstance(value, bytes) else None if value is None else str(value)


def check_comments(
    table: pa.Table, source: str, broken: dict[int, str] | None = None, first_row: int = 0
) -> tuple[pa.Table, dict[int, str]]:
    """Find the rows of a part of a file that cannot be scored, by the rules that `check_rows` has for text and id.

    Repeated ids are not looked for: that would need all ids of the file in memory.

    Args:
        table: columns `text` and perhaps `id`.
        source: as in `check_rows`.
        broken: as in `check_rows`, numbered from 0 in the table.
        first_row: number of the table's first row in the file; row numbers are the ids of a file without ids.

    Returns:
        A table of `id` (int64 where the source has integers or no ids, uint64 where it has those, else string) and
        `text` (string), null where unreadable, and for each bad row, by ascending number from 0 in the table, the
        first reason found.

    Raises:
        RequestError: if a column has a type that cannot be converted.
    """
    reasons = dict(broken or {})
    text = _checked_text(table[TEXT], source, reasons)
    if ID not in table.column_names:
        ids = pa.chunked_array([pa.array(np.arange(first_row, first_row + len(table)))])
    elif pa.types.is_integer(table.schema.field(ID).type):
        ids = table[ID] if pa.types.is_uint64(table[ID].type) else table[ID].cast(pa.int64())
        _mark_bad(reasons, pc.is_null(ids), "the id is missing")
    else:
        ids = _ids_as_text(table[ID], source, reasons)
    return pa.table({ID: ids, TEXT: text}), dict(sorted(reasons.items()))


def _mark_bad(reasons: dict[int, str], bad: pa.Array | pa.ChunkedArray, reason: str) -> None:
    """Note the reason for each row where `bad` is true (null is not), unless the row has one already."""
    for row in np.flatnonzero(pc.fill_null(bad, False).to_numpy(zero_copy_only=False)):
        reasons.setdefault(int(row), reason)


def _checked_text(column: pa.ChunkedArray, source: str, reasons: dict[int, str]) -> pa.ChunkedArray:
    as_bytes = text_as_bytes(column)
    if as_bytes is None:
        raise RequestError(
            f"{source}: the text column holds no text but {column.type}. Name another with --text_column_name."
        )
    _mark_bad(reasons, pc.is_null(as_bytes), "the text is missing")
    text = _decoded(as_bytes, "text", reasons)
    # Chunk by chunk, as trimming makes a copy of the text.
    blanks = [pc.equal(pc.utf8_trim_whitespace(chunk), "") for chunk in text.chunks]
    _mark_bad(reasons, pa.chunked_array(blanks, pa.bool_()), "the text is blank")
    _mark_bad(reasons, pc.match_substring(text, "\0"), "the text holds a NUL character")
    too_long = pc.greater(pc.binary_length(text), MAX_COMMENT_BYTES)
    _mark_bad(reasons, too_long, f"the text is longer than {MAX_COMMENT_BYTES:,} bytes")
    return text


def _decoded(column: pa.ChunkedArray, name: str, reasons: dict[int, str]) -> pa.ChunkedArray:
    """Bytes as text, null and marked as bad where they are not UTF-8."""
    try:
        return column.cast(pa.large_string())
    except pa.ArrowInvalid:
        text = pa.chunked_array([pa.array(map(_text_or_none, column.to_pylist()), pa.large_string())])
        undecodable = pa.array(pc.is_null(text).to_numpy() & pc.is_valid(column).to_numpy())
        _mark_bad(reasons, undecodable, f"the {name} is not UTF-8")
        return text


def _text_or_none(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def _checked_ids(table: pa.Table, source: str, reasons: dict[int, str]) -> pa.Array | pa.ChunkedArray:
    """The ids: int64 if all are plain whole numbers, else strings; the row numbers if there is no such column."""
    if ID not in table.column_names:
        return pa.array(np.arange(len(table)))
    ids = _ids_as_text(table[ID], source, reasons)
    positions = ids.combine_chunks().dictionary_encode().indices.fill_null(-1).to_numpy()
    _, first, inverse = np.unique(positions, return_index=True, return_inverse=True)
    _mark_bad(reasons, pa.array((first[inverse] != np.arange(len(ids))) & (positions >= 0)), "the id was there before")
    whole = pc.all(pc.match_substring_regex(ids, WHOLE_NUMBER)).as_py()
    return ids.cast(pa.int64()) if whole else ids


def _ids_as_text(column: pa.ChunkedArray, source: str, reasons: dict[int, str]) -> pa.ChunkedArray:
    if pa.types.is_integer(column.type):
        column = column.cast(pa.string())
    as_bytes = text_as_bytes(column)
    if as_bytes is None:
        raise RequestError(f"{source}: the column `{ID}` holds {column.type}; ids should be text or whole numbers.")
    _mark_bad(reasons, pc.is_null(as_bytes), "the id is missing")
    return _decoded(as_bytes, ID, reasons)


def _as_float(
    table: pa.Table, name: str, source: str, reasons: dict[int, str], most: float = 1.0
) -> pa.Array | pa.ChunkedArray:
    """A column as float64, null where missing or bad; marks what is no number, or not from 0 to `most`."""
    if name not in table.column_names:
        return pa.nulls(len(table), pa.float64())
    column, types = table[name], pa.types
    as_bytes = text_as_bytes(column)
    if as_bytes is not None:
        text = _decoded(as_bytes, name, reasons)
        number = pc.match_substring_regex(text, NUMBER)
        _mark_bad(reasons, pc.invert(number), f"the {name} is not a number")
        values = pc.cast(pc.utf8_trim_whitespace(pc.if_else(pc.fill_null(number, False), text, None)), pa.float64())
    elif any(test(column.type) for test in (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal)):
        values = column.cast(pa.float64(), safe=False)
    else:
        raise RequestError(f"{source}: the column of the {name} is not numeric but {column.type}.")
    outside = pc.invert(pc.and_(pc.greater_equal(values, 0.0), pc.less_equal(values, most)))
    _mark_bad(reasons, outside, f"the {name} is not from 0 to {most:g}")
    return pc.if_else(outside, None, values)
