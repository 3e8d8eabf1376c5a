"""Readers of what Arrow itself writes: parquet files, Arrow files (Feather, too) and streams."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from toxicity.core.schema import LABEL_LISTS
from toxicity.data.readers.base import ChooseColumns, Limit, Part

ROWS_PER_READ = 2**16
BUFFER_BYTES = 2**21
UUID_BYTES = 16


def read_parquet(path: Path, choose: ChooseColumns, limit: Limit | None) -> Iterator[Part]:
    """Read a file in parts of at most `ROWS_PER_READ` rows, or of what the limit allows."""
    # Without a buffer, or with `pre_buffer`, Arrow would load a whole row group, which may be the whole file. The path
    # is given as bytes, as Arrow cannot encode every name; and not as a Python file, which a thread of Arrow might
    # close at exit.
    with (
        pa.OSFile(os.fsencode(path)) as native,
        pyarrow.parquet.ParquetFile(native, buffer_size=BUFFER_BYTES, pre_buffer=False) as file,
    ):
        schema, rows = file.schema_arrow, file.metadata.num_rows
        columns = choose(schema.names, str(path))
        read = 0
        most = ROWS_PER_READ if limit is None else min(limit.rows, _rows_that_fit(file.metadata, limit.bytes))
        yield _part(schema.empty_table(), schema, columns, 0.0)
        for batch in file.iter_batches(most, columns=list(columns.values())):
            read += len(batch)
            yield _part(pa.Table.from_batches([batch]), schema, columns, read / rows)


def read_arrow(path: Path, choose: ChooseColumns, limit: Limit | None) -> Iterator[Part]:
    """Read a file or a stream in parts of at most `ROWS_PER_READ` rows, or of what the limit allows."""
    most = ROWS_PER_READ if limit is None else limit.rows
    with pa.OSFile(os.fsencode(path)) as native:
        size = native.size()
        if native.read(6) == b"ARROW1":
            reader = pa.ipc.open_file(native)
            batches = map(reader.get_batch, range(reader.num_record_batches))
        else:
            native.seek(0)
            reader = batches = pa.ipc.open_stream(native)
        columns = choose(reader.schema.names, str(path))
        yield _part(reader.schema.empty_table(), reader.schema, columns, 0.0)
        for batch in batches:
            for start in range(0, len(batch), most):
                rows = pa.Table.from_batches([batch.slice(start, most)])
                yield _part(rows, reader.schema, columns, native.tell() / size)


def _rows_that_fit(metadata: pyarrow.parquet.FileMetaData, max_bytes: int) -> int:
    """How many rows have about `max_bytes` bytes, going by the row group with the longest rows; one at least."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    longest = max((group.total_byte_size / max(1, group.num_rows) for group in groups), default=0)
    return max(1, int(max_bytes / max(1, longest)))


def _part(table: pa.Table, schema: pa.Schema, columns: dict[str, str], share: float) -> Part:
    classes = _class_names(schema)
    plain = {
        name: plain_column(table[column], classes.get(column), keep_lists=name == LABEL_LISTS)
        for name, column in columns.items()
    }
    return Part(pa.table(plain), {}, min(1.0, share))


def _class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """The names of the classes that `datasets` notes in a schema, by column."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {column: names for column, feature in features.items() if (names := _names_in(feature))}
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}


def _names_in(feature: Any) -> list[str]:
    """The names of the classes of a feature, or of those in its lists."""
    if isinstance(feature, list):  # as `datasets` before 4 wrote some lists
        return _names_in(feature[0]) if len(feature) == 1 else []
    if not isinstance(feature, dict):
        return []
    if "feature" in feature:
        return _names_in(feature["feature"])
    return feature.get("names") or [] if feature.get("_type") == "ClassLabel" else []


def plain_column(
    column: pa.ChunkedArray, classes: list[str] | None = None, keep_lists: bool = False
) -> pa.ChunkedArray:
    """A column with values of a plain type.

    Classes become their names, as only these say what they mean (null where there is none), lists of one their
    element, dictionaries and extensions their values, and UUIDs, which are 16 bytes wide, text. Lists of several
    values and structures stay as they are.

    Args:
        column: of any Arrow type.
        classes: the names of classes that stand as numbers.
        keep_lists: whether lists stay lists, whatever they hold, of elements of a plain type; then they are large.
    """
    kind, types = column.type, pa.types
    if classes is not None and types.is_integer(kind):
        number = column.cast(pa.int64())
        known = pc.and_(pc.greater_equal(number, 0), pc.less(number, len(classes)))
        return pc.take(pa.array(classes, pa.string()), pc.if_else(known, number, None))
    if isinstance(kind, pa.BaseExtensionType):
        return plain_column(column.cast(kind.storage_type), keep_lists=keep_lists)
    if types.is_dictionary(kind):
        return plain_column(column.cast(kind.value_type), keep_lists=keep_lists)
    if types.is_fixed_size_binary(kind) and kind.byte_width == UUID_BYTES:
        texts = (None if value is None else str(uuid.UUID(bytes=value)) for value in column.to_pylist())
        return pa.chunked_array([pa.array(texts, pa.string())])
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        lengths = pc.list_value_length(column)
        if keep_lists:
            return lists_of(plain_column(pc.list_flatten(column), classes), lengths)
        if len(column) and (pc.max(lengths).as_py() or 0) <= 1:
            return plain_column(pc.list_element(pc.if_else(pc.equal(lengths, 1), column, None), 0), classes)
        return column
    # Of a part; that a part has two gigabytes of text in a column is not ruled out.
    small = column.nbytes < 2**31
    if types.is_string_view(kind) or (types.is_large_string(kind) and small):
        return column.cast(pa.string() if small else pa.large_string())
    if types.is_binary_view(kind) or (types.is_large_binary(kind) and small) or types.is_fixed_size_binary(kind):
        return column.cast(pa.binary() if small else pa.large_binary())
    return column


def lists_of(elements: pa.ChunkedArray, lengths: pa.ChunkedArray) -> pa.ChunkedArray:
    """Large lists of so many elements each, taken in their order; null where the length is."""
    ends = pc.cumulative_sum(pc.fill_null(lengths, 0).cast(pa.int64())).to_numpy()
    offsets = pa.array(np.concatenate([[0], ends]))
    missing = pc.is_null(lengths).combine_chunks()
    return pa.chunked_array([pa.LargeListArray.from_arrays(offsets, elements.combine_chunks(), mask=missing)])
