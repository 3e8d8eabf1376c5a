"""Tables that stay on the disk."""

import resource
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest

from toxicity.core.errors import RequestError
from toxicity.data.memory_map import mapped_from_disk


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_tables_of_any_schema_come_back_in_their_order() -> None:
    tables = [
        pa.table({"text": ["a", None, "ü"], "target": [0.0, 1.0, None]}),
        pa.table({"other": pa.array([], pa.int64())}),
        pa.table({"text": pa.chunked_array([["b"], ["c", "d"]])}),
    ]
    assert mapped_from_disk(iter(tables)) == tables
    assert mapped_from_disk(iter([])) == []


def test_rows_take_no_memory_and_leave_no_file(cache: Path) -> None:
    before = pa.total_allocated_bytes()
    (table,) = mapped_from_disk(pa.table({"number": np.zeros(1_000_000)}) for _ in range(1))
    assert pa.total_allocated_bytes() - before < 100_000
    assert list(cache.iterdir()) == []
    assert len(table) == 1_000_000


def test_a_disk_without_room_is_named() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, hard))
    try:
        with pytest.raises(RequestError, match="File too large.*HF_DATASETS_CACHE"):
            mapped_from_disk([pa.table({"number": np.zeros(1_000_000)})])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
