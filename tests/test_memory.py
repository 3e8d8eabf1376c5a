import pytest

from toxicity.errors import RequestError
from toxicity.memory import USABLE_SHARE, fitting_tokens


def card(fixed, per_token):
    tried = []

    def peak_bytes(tokens):
        tried.append(tokens)
        return fixed + per_token * tokens

    return peak_bytes, tried


def test_the_budget_fills_what_is_free():
    peak_bytes, tried = card(fixed=1_000_000, per_token=5_000)
    budget = fitting_tokens(peak_bytes, 100_000_000, (880, 3520), most=10**9)
    assert tried == [880, 3520]
    assert peak_bytes(budget) <= 100_000_000 * USABLE_SHARE < peak_bytes(budget + 2)


def test_a_step_is_never_more_than_a_step():
    peak_bytes, _ = card(fixed=0, per_token=1)
    assert fitting_tokens(peak_bytes, 10**12, (880, 3520), most=7040) == 7040


def test_a_card_that_is_too_small_is_refused():
    peak_bytes, _ = card(fixed=10**9, per_token=5_000)
    with pytest.raises(RequestError, match="card with more memory"):
        fitting_tokens(peak_bytes, 10**9, (880, 3520), most=7040)
