"""Ids of comments: in the type in which they come, or as names of training rows, which need not be good ones."""

from __future__ import annotations

import logging

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from toxicity.core.errors import RequestError
from toxicity.core.schema import ID
from toxicity.data.readers.base import text_as_bytes
from toxicity.data.text import decoded

logger = logging.getLogger(__name__)


def whole_numbers(ids: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Ids in text as int64, if all but nulls are plain whole numbers that int64 holds; else None.

    `7` and `-7` are plain; `007`, `+7`, `7.0` and ` 7` are not, as the text could not be had back from the number.
    """
    try:
        numbers = ids.cast(pa.int64())
    except pa.ArrowInvalid:
        return None
    # Arrow reads `007` and `0x1F`, too.
    same = pc.all(pc.equal(numbers.cast(ids.type), ids)).as_py()
    return None if same is False else numbers


def ids_as_they_are(column: pa.ChunkedArray, source: str) -> tuple[pa.ChunkedArray, np.ndarray]:
    """The ids of a part of a file to score, in the type that they have there.

    Returns:
        Integers, floats, decimals, booleans, dates, times and columns of nulls alone as they are; text and bytes of
        text as string. And where the bytes are not UTF-8, bool `(rows,)`: those are null.

    Raises:
        RequestError: if the column has a nested type.
    """
    as_bytes = text_as_bytes(column)
    if as_bytes is not None and not pa.types.is_null(column.type):
        text, undecodable = decoded(as_bytes)
        return text.cast(pa.string()), undecodable
    if pa.types.is_nested(column.type):
        raise RequestError(
            f"{source}: the column `{ID}` holds {column.type}; an id is a single value. "
            "Name another column with --id_column_name."
        )
    return column, np.zeros(len(column), dtype=bool)


def ids_of_training_rows(
    column: pa.ChunkedArray | None, rows: int, source: str, broken: int = 0
) -> pa.Array | pa.ChunkedArray:
    """The ids of rows to train on: int64 if all are whole numbers, else large_string; null where there is none.

    Training needs no ids: they only name rows in messages and in the scores of a run. What is unusual about them is
    logged and no fault; `broken` rows, which have none, are not counted. Without a column, or with one of a nested
    type, the ids are the row numbers from 0.
    """
    if column is not None and pa.types.is_nested(column.type):
        logger.info(f"{source}: the ids are {column.type}, so rows go by their numbers from 0.")
        column = None
    if column is None:
        return pa.array(np.arange(rows))
    ids = named_ids(column)
    told = []
    if ids.null_count > broken:
        told.append(f"{_rows(ids.null_count - broken)} none")
    if repeated := _repeated(ids):
        told.append(f"{_rows(repeated)} one that was there before")
    if not (pa.types.is_integer(column.type) or text_as_bytes(column) is not None):
        told.append(f"{column.type} is kept as {'whole numbers' if pa.types.is_integer(ids.type) else 'text'}")
    if told:
        logger.info(f"Of the ids in {source}, which training can do without: {'; '.join(told)}.")
    return ids


def _repeated(ids: pa.ChunkedArray) -> int:
    """How many ids were there before, nulls not counted."""
    ids = ids.drop_null()
    if pa.types.is_integer(ids.type):
        return int(np.count_nonzero(np.diff(np.sort(ids.to_numpy())) == 0))  # ten times faster than counting by hash
    return len(ids) - pc.count_distinct(ids).as_py()


def named_ids(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Ids of any type that is not nested, as int64 if all are whole numbers, else as large_string."""
    types = pa.types
    if types.is_integer(column.type):
        try:
            return column.cast(pa.int64())
        except pa.ArrowInvalid:
            return column.cast(pa.large_string())
    if types.is_floating(column.type):
        # pandas makes floats of whole numbers where one is missing.
        column = pc.if_else(pc.is_nan(column), None, column)
        try:
            return column.cast(pa.int64())
        except pa.ArrowInvalid:
            return _as_text(column)
    as_bytes = text_as_bytes(column)
    if as_bytes is None:
        return _as_text(column)
    text, undecodable = decoded(as_bytes)
    if undecodable.any():
        values = (None if value is None else value.decode(errors="backslashreplace") for value in as_bytes.to_pylist())
        text = pa.chunked_array([pa.array(values, pa.large_string())])
    numbers = whole_numbers(text)
    return text if numbers is None or text.null_count == len(text) else numbers


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Values of a type other than text and integers as large_string, as people write them."""
    if pa.types.is_floating(column.type):
        # The shortest number that is the same float, where Arrow rounds.
        write = lambda value: repr(value).removesuffix(".0")  # noqa: E731
    else:
        try:
            return column.cast(pa.large_string())
        except pa.ArrowException:
            if pa.types.is_timestamp(column.type):  # of a time zone that this machine does not know: in UTC
                texts = column.cast(pa.timestamp(column.type.unit)).cast(pa.large_string())
                utc, nothing = (pa.scalar(text, pa.large_string()) for text in ("Z", ""))
                return pc.binary_join_element_wise(texts, utc, nothing)
            write = str  # an interval, say
    values = (None if value is None else write(value) for value in column.to_pylist())
    return pa.chunked_array([pa.array(values, pa.large_string())])


def _rows(count: int) -> str:
    return "1 row has" if count == 1 else f"{count:,} rows have"
