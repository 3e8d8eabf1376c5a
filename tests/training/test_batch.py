"""Batches on their way to a GPU."""

import numpy as np
import pytest
import torch
from accelerate import skip_first_batches
from accelerate.data_loader import DataLoaderShard
from datasets import Dataset
from torch.utils.data._utils.pin_memory import pin_memory

from toxicity.data.token_dataset import Rows, TokenRows
from toxicity.models.packing import Group, Layout, Packing
from toxicity.training.batching import Batch, Collator

LAYOUTS = {"packed": Layout(packed=True), "padded": Layout(packed=False)}


@pytest.fixture
def moves(monkeypatch):
    """What tensors were asked to do: device and whether without blocking, or that memory was pinned."""
    asked = []

    def to(tensor, device, non_blocking=False):
        asked.append((torch.device(device).type, non_blocking))
        return tensor

    def pinned(tensor, device=None):
        asked.append("pinned")
        return tensor

    monkeypatch.setattr(torch.Tensor, "to", to)
    monkeypatch.setattr(torch.Tensor, "pin_memory", pinned)
    return asked


@pytest.fixture
def dataset():
    """Twelve rows of different lengths, with weights."""
    lengths = [40, 7, 7, 31, 5, 22, 22, 3, 18, 9, 50, 12]
    labels = [float(length % 2) for length in lengths]
    rows = {"input_ids": [[1] * length for length in lengths], "length": lengths, "labels": labels, "weights": labels}
    return TokenRows(Dataset.from_dict(rows))


def count_tensors(value):
    """Tensors in a batch, those in a `Packing` too."""
    if isinstance(value, torch.Tensor):
        return 1
    if isinstance(value, Packing | Group):
        value = vars(value)
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return sum(map(count_tensors, parts))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_copies_to_a_gpu_never_block_also_after_a_resume(moves, dataset, layout):
    options = {"batch_size": 4, "collate_fn": Collator(LAYOUTS[layout], max_tokens=60)}
    loader = DataLoaderShard(dataset, device=torch.device("cuda"), _non_blocking=True, **options)
    for batches, number in ((loader, 3), (skip_first_batches(loader, 1), 2)):
        moves.clear()
        seen = list(batches)
        assert [type(batch) for batch in seen] == [Batch] * number
        assert len(moves) == sum(map(count_tensors, seen)) > 10
        assert set(moves) == {("cuda", True)}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_memory_is_pinned_at_any_depth(moves, dataset, layout):
    batch = pin_memory(Collator(LAYOUTS[layout], max_tokens=60)(dataset.__getitems__([0, 1, 2, 3])))
    assert type(batch) is Batch
    assert moves == ["pinned"] * count_tensors(batch)


def test_what_is_no_tensor_is_handed_on(moves):
    rows = Rows([np.arange(3)], {})
    batch = Batch(rows=4, source=rows, parts=[{"labels": {"labels": torch.ones(2)}, "packing": None}])
    moved = batch.to("cuda")
    assert moved["rows"] == 4
    assert moved["source"] is rows
    assert moved["parts"][0]["packing"] is None
    assert moves == [("cuda", True)]


def test_other_devices_are_waited_for(moves):
    """Apple's would read the memory of tensors that are gone by then."""
    Batch(ids=torch.ones(2)).to("mps", non_blocking=True)
    assert moves == [("mps", False)]
