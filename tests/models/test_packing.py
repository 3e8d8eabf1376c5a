import numpy as np
import pytest
import torch
from packed_models import sample_lengths

from toxicity.models.packing import MOST_PADDING, Layout, few_sizes, similar_lengths


def comments(*lengths):
    """Token ids that identify row and position: 100 × row + position."""
    return [np.arange(length) + 100 * row for row, length in enumerate(lengths)]


def test_padded_to_the_longest():
    batch = Layout(packed=False, pad_token_id=4)(comments(5, 3))
    assert batch["input_ids"].tolist() == [[0, 1, 2, 3, 4], [100, 101, 102, 4, 4]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert batch["input_ids"].dtype == torch.int64


def test_no_mask_where_there_is_no_padding():
    batch = Layout(packed=False)(comments(3, 3))
    assert batch.keys() == {"input_ids"}
    assert batch["input_ids"].tolist() == [[0, 1, 2], [100, 101, 102]]


def test_the_padded_length_is_rounded_up():
    batch = Layout(packed=False, pad_to_multiple_of=8)(comments(9))
    assert batch["input_ids"].shape == (1, 16)
    assert batch["attention_mask"].sum() == 9


def test_a_comment_without_tokens_is_a_row_of_padding():
    # Tokenizers without special tokens make them of an empty text.
    layout = Layout(packed=False, pad_token_id=7, few_sizes_up_to=512)
    assert layout(comments(3, 0))["attention_mask"].tolist() == [[1, 1, 1], [0, 0, 0]]
    assert layout.padded_lengths(np.array([3, 0])).tolist() == [3, 0]


@pytest.mark.parametrize("kind", [np.int32, np.int64])
@pytest.mark.parametrize("most", [1, 50, 64, 511, 512])
def test_few_sizes(kind, most):
    lengths = np.arange(1, most + 1, dtype=kind)
    sizes = few_sizes(lengths, most)
    assert sizes.dtype == kind
    assert (sizes >= lengths).all()
    assert (sizes <= np.minimum(most, np.maximum(lengths, lengths * 1.125))).all(), "at most an eighth is padding"
    assert (np.diff(sizes) >= 0).all()
    assert len(set(sizes.tolist())) <= 56
    assert sizes[-1] == most
    assert sizes[:16].tolist() == lengths[:16].tolist()


def test_a_padded_batch_has_one_of_few_sizes():
    layout = Layout(packed=False, few_sizes_up_to=35)
    assert layout(comments(33, 3))["input_ids"].shape == (2, 35)
    batch = layout(comments(17, 17))
    assert batch["input_ids"].shape == (2, 18)
    assert batch["attention_mask"].sum() == 34
    assert layout.padded_lengths(np.array([16, 17, 33])).tolist() == [16, 18, 35]
    assert layout.computed_positions(np.array([17, 3])) == 36


def test_packed_comments_lie_one_after_another():
    batch = Layout(packed=True)(comments(4, 3, 2, 2))
    assert batch["input_ids"].tolist() == [[0, 1, 2, 3, 100, 101, 102, 200, 201, 300, 301]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1, 2, 0, 1, 0, 1]]
    packing = batch["packing"]
    assert packing.first_tokens.tolist() == [0, 4, 7, 9]
    assert [(group.rows, group.longest, group.mask) for group in packing.groups] == [
        *((1, 4, None), (1, 3, None), (2, 2, None))
    ]
    assert (packing.boundaries, packing.longest) == (None, 4)
    assert packing.to("meta").first_tokens.device.type == "meta"


def test_positions_begin_where_the_model_has_them():
    batch = Layout(packed=True, first_position=2)(comments(3, 1))
    assert batch["position_ids"].tolist() == [[2, 3, 4, 2]]


def test_with_variable_lengths_there_are_boundaries_and_no_groups():
    batch = Layout(packed=True, grouping="none", pad_to_multiple_of=8)(comments(4, 3, 2, 2))
    assert batch["input_ids"].shape == (1, 11)
    packing = batch["packing"]
    assert (packing.groups, packing.longest) == ([], 4)
    assert packing.boundaries.tolist() == [0, 4, 7, 9, 11]
    assert packing.boundaries.dtype == torch.int32
    assert packing.first_tokens.tolist() == [0, 4, 7, 9]
    assert packing.to("meta").boundaries.device.type == "meta"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_groups_of_similar_length_are_padded_in_the_batch(dtype):
    layout = Layout(
        packed=True, pad_token_id=9, pad_to_multiple_of=4, grouping="similar", first_position=2, dtype=dtype
    )
    batch = layout(comments(7, 6, 2, 2))
    first, second = comments(7, 6)
    assert batch["input_ids"].tolist() == [[*first, 9, *second, 9, 9, 200, 201, 9, 9, 300, 301, 9, 9]]
    assert batch["position_ids"].tolist() == [[*range(2, 9), 2, *range(2, 8), 2, 2, 2, 3, 2, 2, 2, 3, 2, 2]]
    packing = batch["packing"]
    assert packing.first_tokens.tolist() == [0, 8, 16, 20]
    assert [(group.rows, group.longest) for group in packing.groups] == [(2, 8), (2, 4)]
    masks = [group.mask for group in packing.groups]
    inf = float("inf")
    assert masks[0].tolist() == [[[[0.0] * 7 + [-inf]]], [[[0.0] * 6 + [-inf] * 2]]]
    assert {mask.dtype for mask in masks} == {dtype}
    # What the memory-efficient kernel takes as it is: all steps but the last are multiples of 8 (here of 4).
    assert {mask.expand(-1, 1, mask.shape[-1], -1).stride() for mask in masks} == {(8, 8, 0, 1), (4, 4, 0, 1)}
    assert packing.to("cpu").groups[0].mask.tolist() == masks[0].tolist()
    assert packing.to("meta").groups[1].mask.device.type == "meta"
    even = layout(comments(4, 4))["packing"]
    assert [(group.rows, group.longest, group.mask) for group in even.groups] == [(2, 4, None)]


def test_what_is_computed():
    lengths = np.array([10, 9, 3])
    real = Layout(packed=True), Layout(packed=True, grouping="none")
    assert {(layout.computed_positions(lengths), layout.computed_pairs(lengths)) for layout in real} == {(22, 190)}
    similar = Layout(packed=True, grouping="similar")
    assert (similar.computed_positions(lengths), similar.computed_pairs(lengths)) == (23, 209)
    padded = Layout(packed=False, pad_to_multiple_of=8)
    assert (padded.computed_positions(lengths), padded.computed_pairs(lengths)) == (48, 768)


@pytest.mark.parametrize("rows", [1, 32, 500])
@pytest.mark.parametrize("multiple", [1, 8])
def test_attention_computes_little_padding(rows, multiple):
    similar = Layout(packed=True, pad_to_multiple_of=multiple, grouping="similar")
    drawn = [sample_lengths(rows, seed) for seed in range(50)]
    if rows == 32:
        assert 60 < np.mean(np.concatenate(drawn)) < 75, "like the sample"
    real = sum((lengths**2).sum() for lengths in drawn)
    computed = sum(similar.computed_pairs(lengths) for lengths in drawn)
    assert 0 < 1 - real / computed <= MOST_PADDING if rows > 1 or multiple > 1 else real == computed
    assert sum(Layout(packed=True, grouping="none").computed_pairs(lengths) for lengths in drawn) == real
    groups = [len(similar(comments(*lengths))["packing"].groups) for lengths in drawn]
    assert np.mean(groups) < 8
    places = sum(similar.computed_positions(lengths) for lengths in drawn)
    assert places < 1.25 * sum(lengths.sum() for lengths in drawn)


def partitions(count):
    """All ways to cut a row of things into groups: for each thing, whether a group begins there."""
    return [[True, *(number >> place & 1 for place in range(count - 1))] for number in range(2 ** (count - 1))]


@pytest.mark.parametrize("multiple", [1, 4, 8])
@pytest.mark.parametrize("seed", range(6))
def test_there_is_no_better_grouping(seed, multiple):
    lengths = sample_lengths(8, seed) if seed else np.array([3, 3, 2, 2, 1, 1, 1, 1])
    found = similar_lengths(lengths, multiple)
    assert (found >= lengths).all()
    rounded = -(-lengths // multiple) * multiple
    most = max((lengths**2).sum() / (1 - MOST_PADDING), (rounded**2).sum())
    assert (found**2).sum() <= most
    for begins in partitions(len(lengths)):
        padded = rounded[np.flatnonzero(begins)[np.cumsum(begins) - 1]]
        if (padded**2).sum() <= most:
            assert (len(set(padded)), padded.sum()) >= (len(set(found)), found.sum()) or len(set(padded)) > len(
                set(found)
            )
