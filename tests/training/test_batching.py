import numpy as np
import pytest
import torch
from accelerate.data_loader import BatchSamplerShard
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import BatchSampler

from toxicity.data.token_dataset import FILLER, IGNORED, TokenRows
from toxicity.models.packing import Layout, fill_batches, longest_first
from toxicity.training.batching import Collator, EpochSampler, EvenSampler
from toxicity.training.losses import training_loss
from toxicity.training.targets import Objective

# Of the shape of the sample's: a median of 42, a long tail, cut at 220.
LENGTHS = np.minimum(np.random.default_rng(0).lognormal(np.log(42), 0.95, 4003).astype(int) + 3, 220)
GROUPED = pytest.mark.parametrize("grouped", [True, False])


def rows_of(*lengths):
    """Rows whose ids tell row and place: 100 × row + place."""
    dataset = Dataset.from_dict(
        {
            "input_ids": [[100 * row + place for place in range(length)] for row, length in enumerate(lengths)],
            "length": list(lengths),
            "labels": [row / 10 for row in range(len(lengths))],
        }
    )
    return TokenRows(dataset)


@GROUPED
def test_every_row_once(grouped):
    assert sorted(EpochSampler(LENGTHS, 32, seed=1, group_by_length=grouped)) == list(range(4003))


@GROUPED
def test_the_order_hangs_on_seed_and_epoch_alone(grouped):
    one, other = (EpochSampler(LENGTHS, 32, seed=1, group_by_length=grouped) for _ in range(2))
    first = list(one)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert first == list(other) == list(one)
    assert torch.equal(before, torch.get_rng_state()), "dropout's random numbers are left alone"
    other.set_epoch(1)
    assert list(one) != list(other)
    assert list(one) != list(EpochSampler(LENGTHS, 32, seed=2, group_by_length=grouped))


def padding_of(order):
    batches = LENGTHS[order[: len(order) // 32 * 32]].reshape(-1, 32)
    return 1 - batches.sum() / (batches.max(axis=1) * 32).sum()


def test_grouped_batches_hold_rows_of_like_length_in_random_order():
    order = np.array(list(EpochSampler(LENGTHS, 32, seed=1)))
    random_order = np.array(list(EpochSampler(LENGTHS, 32, seed=1, group_by_length=False)))
    assert padding_of(order) < 0.03 < 0.5 < padding_of(random_order)
    longest = LENGTHS[order[:4000]].reshape(-1, 32).max(axis=1)
    assert abs(np.corrcoef(np.arange(len(longest)), longest)[0, 1]) < 0.5


def test_fewer_rows_than_a_batch():
    assert sorted(EpochSampler([5, 3, 4], 32, seed=1)) == [0, 1, 2]


@given(st.integers(1, 40), st.integers(1, 5), st.integers(2, 4))
def test_processes_share_every_row_once_in_equally_many_batches(rows, batch_size, processes):
    order = EpochSampler(LENGTHS[:rows], batch_size * processes, seed=1)
    sampler = EvenSampler(order, LENGTHS, batch_size, processes)
    batches = BatchSampler(sampler, batch_size, drop_last=False)
    shares = [list(BatchSamplerShard(batches, processes, rank)) for rank in range(processes)]
    passes = -(-rows // (batch_size * processes))
    assert {len(share) for share in shares} == {passes}
    assert len(sampler) == passes * batch_size * processes
    dealt = [[[row for row in batch if row != FILLER] for batch in share] for share in shares]
    assert sorted(row for share in dealt for batch in share for row in batch) == list(range(rows))
    assert all(len(batch) == batch_size for share in dealt for batch in share[:-1])
    last = [len(share[-1]) for share in dealt]
    assert max(last) - min(last) <= 1, "no process stands idle for others to do what it could"


def test_each_step_has_the_rows_that_it_has_without_dealing():
    order = EpochSampler(LENGTHS, 32, seed=1, group_by_length=False)
    dealt = np.array(list(EvenSampler(order, LENGTHS, 16, 2)))
    assert len(dealt) == 4032
    for step, rows in enumerate(np.split(dealt, len(dealt) // 32)):
        assert sorted(rows[rows != FILLER]) == sorted(list(order)[32 * step : 32 * step + 32])
    assert np.flatnonzero(dealt != FILLER)[4000:].tolist() == [4000, 4016, 4017]
    assert LENGTHS[dealt[4000]] == LENGTHS[dealt[dealt != FILLER][4000:]].max(), "the longest is alone"


def test_a_last_pass_that_is_not_whole_is_left_out_if_asked_for():
    order = EpochSampler(LENGTHS, 32, seed=1)
    sampler = EvenSampler(order, LENGTHS, 16, 2, drop_last=True)
    assert len(sampler) == len(list(sampler)) == 4000
    assert list(sampler) == list(EvenSampler(order, LENGTHS, 16, 2))[:4000]
    assert list(EvenSampler(EpochSampler(LENGTHS[:9], 10, seed=1), LENGTHS, 5, 2, drop_last=True)) == []


@pytest.mark.parametrize(("processes", "before"), [(2, 0.05), (4, 0.1), (8, 0.14)])
def test_processes_compute_equally_many_tokens(processes, before):
    """How many tokens more the process with the most has than the mean of all, in each step of 64 rows a process."""
    lengths = np.tile(LENGTHS, 8)
    order = EpochSampler(lengths, 64 * processes, seed=1, group_by_length=False)
    whole = len(lengths) // (64 * processes) * 64 * processes

    def excess(rows):
        tokens = lengths[np.array(list(rows))[:whole]].reshape(-1, processes, 64).sum(2)
        return (tokens.max(1) / tokens.mean(1)).mean() - 1

    assert excess(order) > before
    assert excess(EvenSampler(order, lengths, 64, processes)) < 0.005


def test_longest_first():
    assert longest_first(np.array([3, 9, 5, 9], dtype=np.uint8)).tolist() == [1, 3, 2, 0]


@given(st.lists(st.integers(1, 220), max_size=60), st.integers(1, 400), st.booleans())
def test_batches_are_full_and_within_the_budget(lengths, budget, padded):
    lengths = np.array(sorted(lengths, reverse=True), dtype=np.int32)
    batches = fill_batches(lengths, budget, padded)
    assert [row for batch in batches for row in range(len(lengths))[batch]] == list(range(len(lengths)))

    def room(batch):
        return lengths[batch].max() * len(lengths[batch]) if padded else lengths[batch].sum()

    assert all(room(batch) <= budget or len(lengths[batch]) == 1 for batch in batches)
    for batch in batches[:-1]:
        assert room(slice(batch.start, batch.stop + 1)) > budget, "another row would not have fitted"


def test_without_a_budget_all_rows_go_together():
    assert fill_batches(np.array([5, 3]), None) == [slice(0, 2)]


def test_a_step_is_cut_into_parts_that_keep_their_labels():
    rows = rows_of(3, 5, 2, 4)
    batch = Collator(Layout(packed=True), max_tokens=9)(rows.__getitems__([0, 1, 2, 3]))
    assert batch["tokens"] == 14
    assert batch["labels"].dtype == torch.float32
    np.testing.assert_allclose(batch["labels"], [[0.1], [0.3], [0.0], [0.2]])
    assert [part["input_ids"][0].tolist() for part in batch["parts"]] == [
        [100, 101, 102, 103, 104, 300, 301, 302, 303],
        [0, 1, 2, 200, 201],
    ]
    assert torch.equal(torch.cat([part["labels"]["labels"] for part in batch["parts"]]), batch["labels"])
    assert len(Collator(Layout(packed=True))(rows.__getitems__([0, 1, 2, 3]))["parts"]) == 1
    padded = Collator(Layout(packed=False), max_tokens=9)(rows.__getitems__([0, 1, 2, 3]))
    assert [tuple(part["input_ids"].shape) for part in padded["parts"]] == [(1, 5), (2, 4), (1, 2)]


def test_a_batch_of_fillers_calls_the_model_and_counts_for_nothing():
    rows = rows_of(3, 5)
    batch = Collator(Layout(packed=True))(rows.__getitems__([FILLER, FILLER]))
    assert [part["input_ids"].shape for part in batch["parts"]] == [(1, 3)]
    assert batch["parts"][0]["labels"]["labels"].tolist() == batch["labels"].tolist() == [[IGNORED]]
    assert (batch["rows"], batch["tokens"]) == (0, 0)
    some = Collator(Layout(packed=True))(rows.__getitems__([1, FILLER]))
    assert some["labels"].tolist() == [[pytest.approx(0.1)]]
    assert (some["rows"], some["tokens"]) == (1, 5)


def test_later_passes_leave_some_of_the_sparse_rows_out():
    sparse = np.arange(100) >= 20
    sampler = EpochSampler(np.ones(100), 8, seed=1, group_by_length=False, sparse=sparse, later_share=0.25)
    epochs = []
    for epoch in range(4):
        sampler.set_epoch(epoch)
        epochs.append(list(sampler))
    assert sorted(epochs[0]) == list(range(100))
    # The rest is passes of 20 + 20 rows, one after the other across the epochs, each drawn anew.
    later = np.concatenate(epochs[1:])[:280].reshape(-1, 40)
    for rows in later:
        assert len(set(rows)) == 40
        assert set(range(20)) <= set(rows)
    assert len({tuple(sorted(rows)) for rows in later}) == 7


def test_later_passes_are_grouped_by_length_too():
    sampler = EpochSampler(LENGTHS, 32, seed=1, sparse=np.ones(len(LENGTHS), bool), later_share=0.3)
    sampler.set_epoch(2)
    batches = LENGTHS[list(sampler)][: len(LENGTHS) // 32 * 32].reshape(-1, 32)
    assert 1 - batches.sum() / (batches.max(1) * 32).sum() < 0.05


def test_without_sparse_rows_every_epoch_has_all():
    sampler = EpochSampler(np.ones(50), 8, seed=1, sparse=np.ones(50, bool), later_share=1.0)
    sampler.set_epoch(3)
    assert sorted(sampler) == list(range(50))


def test_weights_and_auxiliary_targets_stay_with_their_comments():
    dataset = Dataset.from_dict({"input_ids": [[1], [2, 2], [3, 3, 3]], "length": [1, 2, 3]})
    auxiliary = np.array([[0, 1], [0.5, np.nan], [1, 0]], np.float32)
    objective = Objective(
        np.array([0, 0.5, 1], np.float32), np.array([1, 2, 3], np.float32), ("a", "b"), auxiliary, np.ones(3)
    )
    rows = TokenRows(objective.add_targets(dataset).select([2, 0, 1]))
    batch = Collator(Layout(packed=True), max_tokens=4)(rows.__getitems__([0, 1, 2]))
    parts = [part["labels"] for part in batch["parts"]]
    assert [part["labels"].tolist() for part in parts] == [[[1.0]], [[0.5], [0.0]]]
    assert [part["weights"].tolist() for part in parts] == [[[3.0]], [[2.0], [1.0]]]
    np.testing.assert_array_equal(torch.cat([part["auxiliary"] for part in parts]), auxiliary[::-1])


def test_filler_beside_weights_has_no_part_in_the_loss():
    dataset = Dataset.from_dict({"input_ids": [[1]], "length": [1]})
    objective = Objective(np.ones(1, np.float32), np.full(1, 2, np.float32), ("a",), np.ones((1, 1), np.float32), None)
    part = Collator(Layout(packed=True))(TokenRows(objective.add_targets(dataset)).__getitems__([FILLER]))["parts"][0]
    assert training_loss(torch.ones(1, 2), **part["labels"], num_items_in_batch=1) == 0
