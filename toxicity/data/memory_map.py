"""Arrow tables in memory-mapped files: rows are loaded only when they are used, so tables may exceed the memory."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa

from toxicity.core.errors import RequestError
from toxicity.core.schema import TEXT

ROWS_PER_COPY = 50_000


def mapped_from_disk(tables: Iterable[pa.Table]) -> list[pa.Table]:
    """Write tables of any schemas to a file in the cache of `datasets`, and return them memory-mapped from there.

    The file has no name, so nothing is left of it, however the process ends.

    Raises:
        RequestError: if the file cannot be written, for example because the disk is full.
    """
    folder = Path(datasets.config.HF_DATASETS_CACHE)
    count = 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=folder)
        with open(descriptor, "rb") as file, _without_name(name) as sink:  # noqa: PTH123
            for table in tables:
                with pa.ipc.new_stream(sink, table.schema) as writer:
                    writer.write_table(table)
                count += 1
            if not count:
                return []
            sink.flush()
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise RequestError(
            f"cannot keep the comments in {folder}: {error.strerror or error}. "
            "Make room there, or name another folder in HF_DATASETS_CACHE."
        ) from error
    source = pa.BufferReader(pa.py_buffer(mapped))
    return [pa.ipc.open_stream(source).read_all() for _ in range(count)]


def _without_name(name: str) -> pa.OSFile:
    """Arrow's own file to write to, whose name is taken from it at once.

    It is not Python's file, as one of Arrow's threads might drop that while the interpreter exits.
    """
    try:
        return pa.OSFile(os.fsencode(name), "wb")
    finally:
        Path(name).unlink()


def take_to_disk(table: pa.Table, rows: np.ndarray) -> pa.Table:
    """These rows (numbers from 0) of a table with a column `text`, in this order, memory-mapped from a file."""
    starts = range(0, max(len(rows), 1), ROWS_PER_COPY)
    return pa.concat_tables(mapped_from_disk(take(table, rows[start : start + ROWS_PER_COPY]) for start in starts))


def take(table: pa.Table, rows: np.ndarray) -> pa.Table:
    """The same as `table.take(rows)`, which would first copy all chunks of the text, the largest column, into one."""
    chunk_starts = np.cumsum([0, *(len(chunk) for chunk in table[TEXT].chunks)])
    chunks = np.searchsorted(chunk_starts, rows, side="right") - 1
    taken = [table[:0]]
    for chunk in np.unique(chunks):
        part = table[chunk_starts[chunk] : chunk_starts[chunk + 1]]
        taken.append(part.take(pa.array(rows[chunks == chunk] - chunk_starts[chunk])))
    in_order = np.argsort(np.argsort(chunks, kind="stable"))
    return pa.concat_tables(taken).combine_chunks().take(pa.array(in_order))
