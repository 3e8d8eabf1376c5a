import numpy as np
import torch

from toxicity.batching import LengthGroupedSampler, PaddingCollator, longest_first

LENGTHS = np.random.default_rng(0).integers(3, 220, 1003)


def test_every_row_once():
    assert sorted(LengthGroupedSampler(LENGTHS, 32, seed=1)) == list(range(1003))


def test_the_order_hangs_on_seed_and_epoch_alone():
    one, other = LengthGroupedSampler(LENGTHS, 32, seed=1), LengthGroupedSampler(LENGTHS, 32, seed=1)
    assert list(one) == list(other) == list(one)
    other.set_epoch(1)
    assert list(one) != list(other)
    assert list(one) != list(LengthGroupedSampler(LENGTHS, 32, seed=2))


def test_batches_hold_rows_of_like_length_in_random_order():
    order = np.array(list(LengthGroupedSampler(LENGTHS, 32, seed=1)))[: 1003 // 32 * 32].reshape(-1, 32)
    longest = LENGTHS[order].max(axis=1)
    padding = 1 - LENGTHS[order].sum() / (longest * 32).sum()
    random_rows = np.random.default_rng(0).permutation(1003)[: order.size].reshape(-1, 32)
    random_padding = 1 - LENGTHS[random_rows].sum() / (LENGTHS[random_rows].max(axis=1) * 32).sum()
    assert padding < 0.05 < 0.3 < random_padding
    assert abs(np.corrcoef(np.arange(len(longest)), longest)[0, 1]) < 0.5


def test_fewer_rows_than_a_batch():
    assert sorted(LengthGroupedSampler([5, 3, 4], 32, seed=1)) == [0, 1, 2]


def test_longest_first():
    assert longest_first([3, 9, 5, 9]).tolist() == [1, 3, 2, 0]


def test_collator_pads_to_the_longest():
    rows = [{"input_ids": [2, 7, 3], "labels": 1.0}, {"input_ids": [2, 8, 9, 9, 3], "labels": 0.0}]
    batch = PaddingCollator(pad_token_id=4)(rows)
    assert batch["input_ids"].tolist() == [[2, 7, 3, 4, 4], [2, 8, 9, 9, 3]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert batch["labels"].tolist() == [[1.0], [0.0]]
    assert batch["labels"].dtype == torch.float32


def test_collator_rounds_the_length_up():
    batch = PaddingCollator(pad_token_id=0, pad_to_multiple_of=8)([{"input_ids": [1] * 9, "labels": 0.0}])
    assert batch["input_ids"].shape == (1, 16)
    assert batch["attention_mask"].sum() == 9
