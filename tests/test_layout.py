import numpy as np
import torch

from toxicity.layout import Layout


def comments(*lengths):
    """Token ids that tell row and place: 100 × row + place."""
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
    batch = Layout(packed=True, shorter_by=0.25)(comments(4, 3, 2, 2))
    assert batch["input_ids"].tolist() == [[0, 1, 2, 3, 100, 101, 102, 200, 201, 300, 301]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1, 2, 0, 1, 0, 1]]
    packing = batch["packing"]
    assert packing.first_tokens.tolist() == [0, 4, 7, 9]
    uneven, even = packing.groups
    assert (uneven.rows, uneven.longest, uneven.tokens) == (2, 4, 7)
    assert uneven.places.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert uneven.is_padding.tolist() == [[False] * 4, [False, False, False, True]]
    assert (even.rows, even.longest, even.tokens, even.places, even.is_padding) == (2, 2, 4, None, None)
    assert packing.to("cpu").groups[0].places.tolist() == uneven.places.tolist()
    assert packing.to("meta").first_tokens.device.type == "meta"


def test_a_group_for_each_length_or_one_for_all():
    lengths = (9, 9, 7, 2)
    tokens = comments(*lengths)
    assert len(Layout(packed=True, shorter_by=0.0)(tokens)["packing"].groups) == 3
    (group,) = Layout(packed=True, shorter_by=1.0)(tokens)["packing"].groups
    assert (group.rows, group.longest, group.tokens) == (4, 9, 27)


def test_positions_that_are_computed():
    lengths = np.array([10, 9, 3])
    assert Layout(packed=True, shorter_by=0.1).computed_positions(lengths) == (22, 23)
    assert Layout(packed=False, pad_to_multiple_of=8).computed_positions(lengths) == (48, 48)
