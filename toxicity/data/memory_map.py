"""Arrow tables that stay on the disk: as many rows as there are cost memory only while they are looked at."""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterable
from pathlib import Path

import datasets
import pyarrow as pa

from toxicity.core.errors import RequestError


def spooled(tables: Iterable[pa.Table]) -> list[pa.Table]:
    """Write tables to one file in the cache of `datasets`, each as it comes, and map them back from there.

    The file has no name, so that nothing is left of it however the process ends.

    Args:
        tables: of any schemas.

    Returns:
        The same tables in the same order.

    Raises:
        RequestError: if the file cannot be written, for want of room say.
    """
    folder = Path(datasets.config.HF_DATASETS_CACHE)
    count = 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            for table in tables:
                with pa.ipc.new_stream(file, table.schema) as writer:
                    writer.write_table(table)
                count += 1
            if not count:
                return []
            file.flush()
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise RequestError(
            f"cannot keep the comments in {folder}: {error.strerror or error}. "
            "Make room there, or name another folder in HF_DATASETS_CACHE."
        ) from error
    source = pa.BufferReader(pa.py_buffer(mapped))
    return [pa.ipc.open_stream(source).read_all() for _ in range(count)]
