"""Bytes of a file as text."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def decoded(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, np.ndarray]:
    """A column of bytes as large_string, null where they are not UTF-8; and where that is, bool `(rows,)`."""
    try:
        return column.cast(pa.large_string()), np.zeros(len(column), dtype=bool)
    except pa.ArrowInvalid:
        text = pa.chunked_array([pa.array(map(text_or_none, column.to_pylist()), pa.large_string())])
        return text, pc.is_null(text).to_numpy() & pc.is_valid(column).to_numpy()


def text_or_none(value: bytes | None) -> str | None:
    """Bytes as text; None if they are not UTF-8."""
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None
