import resource

import numpy as np
import pyarrow as pa
import pytest

from toxicity.core.errors import RequestError
from toxicity.data import memory_map
from toxicity.data.memory_map import mapped_from_disk, take_to_disk

pytestmark = pytest.mark.usefixtures("cache_dir")


def test_tables_of_any_schema_come_back_in_their_order():
    tables = [
        pa.table({"text": ["a", None, "ü"], "target": [0.0, 1.0, None]}),
        pa.table({"other": pa.array([], pa.int64())}),
        pa.table({"text": pa.chunked_array([["b"], ["c", "d"]])}),
    ]
    assert mapped_from_disk(iter(tables)) == tables
    assert mapped_from_disk(iter([])) == []


def test_rows_take_no_memory_and_leave_no_file(cache_dir):
    before = pa.total_allocated_bytes()
    (table,) = mapped_from_disk(pa.table({"number": np.zeros(1_000_000)}) for _ in range(1))
    assert pa.total_allocated_bytes() - before < 100_000
    assert list(cache_dir.parent.iterdir()) == []
    assert len(table) == 1_000_000


def test_rows_are_copied_in_the_order_asked_for_from_any_chunks(monkeypatch):
    monkeypatch.setattr(memory_map, "ROWS_PER_COPY", 3)
    texts = pa.chunked_array([["a", "b"], [], ["c", "d", "e"], ["f"]])
    table = pa.table({"id": range(6), "text": texts})
    rows = np.array([5, 0, 3, 1, 4, 0, 2])
    assert take_to_disk(table, rows).to_pylist() == table.take(pa.array(rows)).to_pylist()
    assert take_to_disk(table, rows[:0]).schema == table.schema


def test_a_disk_without_room_is_named():
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, hard))
    try:
        with pytest.raises(RequestError, match="File too large.*HF_DATASETS_CACHE"):
            mapped_from_disk([pa.table({"number": np.zeros(1_000_000)})])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(memory_map.datasets.config, "HF_DATASETS_CACHE", tmp_path / "file" / "cache")
    with pytest.raises(RequestError, match=r"cannot keep the comments in .*file/cache: .*HF_DATASETS_CACHE"):
        mapped_from_disk([pa.table({"number": [1]})])
