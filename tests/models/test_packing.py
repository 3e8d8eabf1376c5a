import numpy as np
import torch

from toxicity.models.packing import Layout


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


def test_packed_comments_lie_one_after_another():
    batch = Layout(packed=True)(comments(4, 3, 2, 2))
    assert batch["input_ids"].tolist() == [[0, 1, 2, 3, 100, 101, 102, 200, 201, 300, 301]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1, 2, 0, 1, 0, 1]]
    packing = batch["packing"]
    assert packing.first_tokens.tolist() == [0, 4, 7, 9]
    assert [(group.rows, group.longest, group.tokens) for group in packing.groups] == [(1, 4, 4), (1, 3, 3), (2, 2, 4)]
    assert {group.places for group in packing.groups} == {group.is_padding for group in packing.groups} == {None}
    assert packing.to("meta").first_tokens.device.type == "meta"


def test_one_group_is_padded_to_its_longest():
    packing = Layout(packed=True, one_group=True)(comments(4, 3))["packing"]
    (group,) = packing.groups
    assert (group.rows, group.longest, group.tokens) == (2, 4, 7)
    assert group.places.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert group.is_padding.tolist() == [[False] * 4, [False, False, False, True]]
    assert packing.to("cpu").groups[0].places.tolist() == group.places.tolist()
    (even,) = Layout(packed=True, one_group=True)(comments(2, 2))["packing"].groups
    assert (even.places, even.is_padding) == (None, None)


def test_positions_that_are_computed():
    lengths = np.array([10, 9, 3])
    assert Layout(packed=True).computed_positions(lengths) == (22, 22)
    assert Layout(packed=True, one_group=True).computed_positions(lengths) == (22, 30)
    assert Layout(packed=False, pad_to_multiple_of=8).computed_positions(lengths) == (48, 48)
