"""Reader of parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from toxicity.data.readers.base import BLOCK_BYTES, ChooseColumns, Limit, Part

ROWS_PER_READ = 2**16


def read_parquet(path: Path, choose: ChooseColumns, limit: Limit | None) -> Iterator[Part]:
    """Read a file in parts of at most `ROWS_PER_READ` rows, or of what the limit allows."""
    # Without a buffer, Arrow would load a whole row group, which may be the whole file.
    with pyarrow.parquet.ParquetFile(path, buffer_size=BLOCK_BYTES) as file:
        wanted = choose(file.schema_arrow.names, str(path))
        yield Part(file.schema_arrow.empty_table().select(wanted), {}, 0.0)
        read = 0
        rows = ROWS_PER_READ if limit is None else min(limit.rows, _rows_that_fit(file.metadata, limit.bytes))
        for batch in file.iter_batches(rows, columns=wanted):
            read += len(batch)
            yield Part(pa.Table.from_batches([batch]).select(wanted), {}, read / file.metadata.num_rows)


def _rows_that_fit(metadata: pyarrow.parquet.FileMetaData, max_bytes: int) -> int:
    """How many rows have about `max_bytes` bytes, going by the row group with the longest rows; one at least."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    longest = max((group.total_byte_size / max(1, group.num_rows) for group in groups), default=0)
    return max(1, int(max_bytes / max(1, longest)))
