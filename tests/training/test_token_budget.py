import numpy as np
import pytest
import torch

from toxicity.core.errors import RequestError
from toxicity.training.token_budget import USABLE_SHARE, fitting_tokens, usual_rows


def card(fixed, per_token, memory=float("inf")):
    tried = []

    def peak_bytes(tokens):
        tried.append(tokens)
        tokens += 10  # the last comment is longer than what was missing
        if fixed + per_token * tokens > memory:
            raise torch.OutOfMemoryError("too much")
        return tokens, fixed + per_token * tokens

    return peak_bytes, tried


def test_the_budget_fills_what_is_free():
    peak_bytes, tried = card(fixed=1_000_000, per_token=5_000)
    budget = fitting_tokens(peak_bytes, 100_000_000, (880, 3520), most=10**9)
    assert tried == [880, 3520]
    needed = 1_000_000 + 5_000 * budget
    assert needed <= 100_000_000 * USABLE_SHARE < needed + 2 * 5_000


def test_a_step_is_never_more_than_a_step():
    peak_bytes, _ = card(fixed=0, per_token=1)
    assert fitting_tokens(peak_bytes, 10**12, (880, 3520), most=7040) == 7040


@pytest.mark.parametrize("memory", [float("inf"), 10**9], ids=["by the plan", "by the try"])
def test_a_card_that_is_too_small_is_refused(memory):
    peak_bytes, _ = card(fixed=10**9, per_token=5_000, memory=memory)
    with pytest.raises(RequestError, match="card with more memory"):
        fitting_tokens(peak_bytes, 10**9, (880, 3520), most=7040)


def test_a_card_with_room_for_the_first_try_alone_gets_that():
    peak_bytes, tried = card(fixed=0, per_token=5_000, memory=8_000_000)
    assert fitting_tokens(peak_bytes, 8_000_000, (880, 3520), most=7040) == 890
    assert tried == [880, 3520]


@pytest.mark.parametrize("tokens", [880, 3520])
def test_what_is_tried_has_the_lengths_of_the_comments(tokens):
    lengths = np.minimum(np.random.default_rng(0).lognormal(np.log(42), 0.95, 4003).astype(int) + 3, 220)
    tried = lengths[usual_rows(lengths, tokens, padded=False)]
    assert tokens <= tried.sum() < tokens * 1.2
    assert tried[0] == lengths.max()
    assert (np.diff(tried) <= 0).all()
    assert np.median(tried) == pytest.approx(np.median(lengths), rel=0.1)
    padded = lengths[usual_rows(lengths, tokens, padded=True)]
    assert len(padded) * padded[0] == tokens


def test_few_comments_are_tried_several_times():
    assert usual_rows(np.array([3, 5]), 16, padded=False).tolist() == [1, 1, 1, 0]
