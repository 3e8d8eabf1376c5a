from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fake_card import FakeCard
from training_steps import dataset_of

from toxicity.core.errors import RequestError
from toxicity.data.token_dataset import TokenRows
from toxicity.hardware.memory import room_of
from toxicity.models.packing import Layout
from toxicity.training.token_budget import (
    USABLE_SHARE,
    choose_token_budget,
    fitting_tokens,
    usual_rows,
)

PROBES = 880, 3520


def passes(fixed, per_token, memory=float("inf")):
    """A pass that takes so much memory, and the numbers of tokens that it was tried with."""
    tried = []

    def peak_bytes(tokens):
        tried.append(tokens)
        tokens += 10  # the last comment is longer than what was missing
        if fixed + per_token * tokens > memory:
            raise torch.OutOfMemoryError("too much")
        return tokens, fixed + per_token * tokens

    return peak_bytes, tried


@pytest.mark.parametrize("memory", [float("inf"), 10**8], ids=["by the plan", "by the try"])
def test_the_budget_fills_what_is_free_where_a_step_does_not_fit(memory):
    peak_bytes, tried = passes(fixed=1_000_000, per_token=5_000, memory=memory)
    budget = fitting_tokens(peak_bytes, 100_000_000, PROBES, most=10**9)
    assert tried == [10**9, 880, 3520]
    needed = 1_000_000 + 5_000 * budget
    assert needed <= 100_000_000 * USABLE_SHARE < needed + 2 * 5_000


def test_a_step_that_fits_is_not_cut_and_nothing_else_is_tried():
    peak_bytes, tried = passes(fixed=0, per_token=1)
    assert fitting_tokens(peak_bytes, 10**12, PROBES, most=7040, gradient_bytes=10**13) == 7040
    assert tried == [7040]


def test_a_step_of_several_parts_has_room_for_its_gradients():
    alone, beside = (
        fitting_tokens(passes(fixed=1_000_000, per_token=5_000)[0], 100_000_000, PROBES, 10**9, gradients)
        for gradients in (0, 20_000_000)
    )
    assert alone - beside == 20_000_000 / 5_000


@pytest.mark.parametrize("memory", [float("inf"), 10**9], ids=["by the plan", "by the try"])
def test_a_card_that_is_too_small_has_room_for_nothing(memory):
    peak_bytes, _ = passes(fixed=10**9, per_token=5_000, memory=memory)
    assert fitting_tokens(peak_bytes, 10**9, PROBES, most=7040) == 0


def test_a_card_with_room_for_the_first_probe_alone_gets_that():
    peak_bytes, tried = passes(fixed=0, per_token=5_000, memory=8_000_000)
    assert fitting_tokens(peak_bytes, 8_000_000, PROBES, most=7040) == 890
    assert tried == [7040, 880, 3520]


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


@pytest.fixture
def rows(tokenizer):
    return TokenRows(dataset_of(tokenizer))


@pytest.fixture
def measured(tiny_model, rows, monkeypatch):
    """The budget of the tiny model on a card, by default for steps of 16 rows in one process."""

    def measure(card, batch_size=16, asked=None, processes=1):
        args = SimpleNamespace(max_tokens_per_batch=asked, cut_by_memory=True, train_batch_size=batch_size)
        accelerator = SimpleNamespace(num_processes=processes, autocast=nullcontext, reduce=card.exchange)
        with card.holding(tiny_model, monkeypatch):
            return choose_token_budget(args, tiny_model, Layout(packed=False), rows, accelerator)

    return measure


MIB = 2**20


@pytest.mark.parametrize("asked", [None, "auto"])
def test_a_step_goes_through_the_card_at_once_where_it_fits(measured, rows, asked):
    card = FakeCard(total=64 * MIB, per_token=1000)
    assert measured(card, asked=asked) == 16 * rows.lengths.max()
    assert len(card.passes) == 1


def test_a_small_card_gets_parts_that_fit_beside_what_comes_later(measured, tiny_model, rows):
    weights = sum(weight.nbytes for weight in tiny_model.parameters())
    budget = measured(FakeCard(total=8 * MIB, per_token=4_000), batch_size=64)
    # Beside the weights there are the two moments of AdamW, and from the second part on the gradients.
    room = (8 * MIB - weights - 2 * weights) * USABLE_SHARE - weights
    assert 16 * rows.lengths.max() < budget < 64 * rows.lengths.max()
    assert budget == pytest.approx(room / 4_000, abs=2)


def test_several_processes_leave_room_for_their_exchange(measured, tiny_model):
    weights = sum(weight.nbytes for weight in tiny_model.parameters())
    alone = measured(FakeCard(total=8 * MIB, per_token=4_000), batch_size=64)
    together = measured(FakeCard(total=8 * MIB, per_token=4_000, of_exchange=MIB), batch_size=64, processes=2)
    assert alone - together == pytest.approx((weights + MIB) * USABLE_SHARE / 4_000, abs=2)


@pytest.mark.parametrize(
    ("others", "message"),
    [
        (
            0,
            r"room for the training of this model on 168 tokens at a time on the V100: .* of its 1.0 GiB are free. C",
        ),
        (2**30 - 2**20, r"of its 1.0 GiB are free, and other processes hold 1.0; nvidia-smi lists them. End them, or"),
    ],
)
def test_a_card_without_room_is_refused_with_the_reason(measured, rows, monkeypatch, others, message):
    assert 4 * rows.lengths.max() == 168
    told = SimpleNamespace(type="cuda")
    monkeypatch.setattr("toxicity.training.token_budget.room_of", lambda device, what: room_of(told, what))
    monkeypatch.setattr("toxicity.hardware.memory.LEAST_FREE_BYTES", 2**29)
    with pytest.raises(RequestError, match=message):
        measured(FakeCard(total=2**30, others=others, per_token=2**28))
