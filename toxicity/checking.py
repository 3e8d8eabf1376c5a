"""Raw columns → canonical types, every row either usable or bad for a reason."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from toxicity.errors import RequestError
from toxicity.schema import ANNOTATOR_COUNTS, ID, IDENTITIES, SUBTYPES, TARGET, TEXT

# More than a hundred times the longest comment of any edition: a file of another kind, or two rows run together.
MAX_COMMENT_BYTES = 1_000_000

NUMBER = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"
WHOLE_NUMBER = r"^(0|[1-9]\d{0,17})$"

# Takes where rows are bad, and why.
Blame = Callable[[pa.Array | pa.ChunkedArray, str], None]


def check_rows(table: pa.Table, source: str) -> tuple[pa.Table, dict[int, str]]:
    """Give the columns their canonical types and find the rows that cannot be used.

    Args:
        table: columns under canonical names, at least `text` and `target`; text as strings or bytes, numbers as
            numbers or as text.
        source: what it was read from, for messages.

    Returns:
        A table of all columns of `schema.NAMES` (types as `data.Splits` says, null where absent or unreadable)
        with as many rows, and for each bad row (counted from 0, ascending) the first reason found.

    Raises:
        RequestError: if the table is empty, or a column is of a type that no row of it can mend.
    """
    rows = len(table)
    if rows == 0:
        raise RequestError(f"{source} holds no rows, which leaves every split empty.")
    reasons: dict[int, str] = {}

    def blame(bad: pa.Array | pa.ChunkedArray, reason: str) -> None:
        for row in np.flatnonzero(pc.fill_null(bad, False).to_numpy(zero_copy_only=False)):
            reasons.setdefault(int(row), reason)

    text = _checked_text(table[TEXT], source, blame)
    columns = {ID: _checked_ids(table, blame), TEXT: text}
    target = _as_float(table[TARGET], TARGET, source, blame)
    blame(pc.is_null(target), "the target is missing")
    columns[TARGET] = target
    for name in (*SUBTYPES, *IDENTITIES, *ANNOTATOR_COUNTS):
        type_ = pa.int32() if name in ANNOTATOR_COUNTS else pa.float32()
        if name not in table.column_names:
            columns[name] = pa.nulls(rows, type_)
        elif name in ANNOTATOR_COUNTS:
            columns[name] = pc.cast(_as_float(table[name], name, source, blame, most=np.inf), type_, safe=False)
        else:
            columns[name] = _as_float(table[name], name, source, blame).cast(type_)
    return pa.table(columns), dict(sorted(reasons.items()))


def _checked_text(column: pa.ChunkedArray, source: str, blame: Blame) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_null(column.type):
        column = column.cast(pa.string())
    if not any(
        test(column.type)
        for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    ):
        raise RequestError(
            f"{source}: the text column holds no text but {column.type}. Name another with --text_column_name."
        )
    blame(pc.is_null(column), "the text is missing")
    text, not_utf8 = _decoded(column)
    blame(not_utf8, "the text is not UTF-8")
    blame(pc.equal(pc.utf8_trim_whitespace(text), ""), "the text is blank")
    blame(pc.match_substring(text, "\0"), "the text holds a NUL character")
    blame(pc.greater(pc.binary_length(text), MAX_COMMENT_BYTES), f"the text is longer than {MAX_COMMENT_BYTES:,} bytes")
    return text


def _decoded(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Bytes as text, null where they are not UTF-8, and where that is."""
    string = (
        pa.large_string()
        if pa.types.is_large_binary(column.type) or pa.types.is_large_string(column.type)
        else pa.string()
    )
    try:
        text = column.cast(string)
        return text, pa.chunked_array([pa.array(np.zeros(len(column), dtype=bool))])
    except pa.ArrowInvalid:
        texts = [_text_or_none(value) for value in column.to_pylist()]
        text = pa.chunked_array([pa.array(texts, string)])
        return text, pc.and_(pc.is_valid(column), pc.is_null(text))


def _text_or_none(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def _checked_ids(table: pa.Table, blame: Blame) -> pa.Array | pa.ChunkedArray:
    """The ids as they stand, int64 where all of them are plain whole numbers; row numbers where there are none."""
    if ID not in table.column_names:
        return pa.array(np.arange(len(table)))
    ids, not_utf8 = _decoded(table[ID].cast(pa.binary()) if pa.types.is_string(table[ID].type) else _as_text(table[ID]))
    blame(not_utf8, "the id is not UTF-8")
    blame(pc.is_null(ids), "the id is missing")
    positions = ids.combine_chunks().dictionary_encode().indices.fill_null(-1).to_numpy()
    _, first, inverse = np.unique(positions, return_index=True, return_inverse=True)
    blame(pa.array((first[inverse] != np.arange(len(ids))) & (positions >= 0)), "the id was there before")
    whole = pc.all(pc.match_substring_regex(ids, WHOLE_NUMBER)).as_py()
    return ids.cast(pa.int64()) if whole else ids


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column if pa.types.is_binary(column.type) else column.cast(pa.string()).cast(pa.binary())


def _as_float(column: pa.ChunkedArray, name: str, source: str, blame: Blame, most: float = 1.0) -> pa.ChunkedArray:
    """A column as float64, null where it is missing or bad; blames what is no number or not within 0 to `most`."""
    types = pa.types
    if types.is_binary(column.type) or types.is_string(column.type) or types.is_large_string(column.type):
        text, not_utf8 = _decoded(column)
        number = pc.match_substring_regex(text, NUMBER)
        blame(pc.or_(pc.invert(number), not_utf8), f"the {name} is not a number")
        values = pc.cast(pc.utf8_trim_whitespace(pc.if_else(pc.fill_null(number, False), text, None)), pa.float64())
    elif (
        types.is_integer(column.type)
        or types.is_floating(column.type)
        or types.is_boolean(column.type)
        or types.is_null(column.type)
    ):
        values = column.cast(pa.float64())
    else:
        raise RequestError(f"{source}: the column of the {name} is not numeric but {column.type}.")
    outside = pc.invert(pc.and_(pc.greater_equal(values, 0.0), pc.less_equal(values, most)))
    blame(outside, f"the {name} is not from 0 to {most:g}")
    return pc.if_else(outside, None, values)
