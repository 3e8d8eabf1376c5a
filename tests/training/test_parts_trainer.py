"""Batches in parts: what happens when the memory of a device runs out."""

import copy
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from training_steps import ONE_STEP, dataset_of, loss_and_gradient, weights_of, with_copies

from toxicity.core.errors import RequestError, RunFailure
from toxicity.training.targets import Objective

ROWS = ONE_STEP | {"per_device_train_batch_size": 32}


class SmallMemory:
    """A model's memory that holds a number of tokens: a pass over more fails, in its forward or its backward half.

    Attributes:
        passes: tokens of each pass, padding included.
        kept: how many of the states that failed passes computed are still there, at each pass.
    """

    def __init__(self, model, tokens, where="forward", after=0):
        self.tokens, self.where, self.after = tokens, where, after
        self.passes, self.kept, self.states = [], [], []
        model.register_forward_pre_hook(self.before, with_kwargs=True)
        model.bert.encoder.layer[1].register_forward_hook(self.amid)

    def before(self, module, args, inputs):
        self.kept.append(sum(states() is not None for states in self.states))
        self.states.clear()
        self.passes.append(inputs["input_ids"].numel())

    @property
    def full(self):
        return self.passes[-1] > self.tokens and len(self.passes) > self.after

    def amid(self, module, args, states):
        if not self.full:
            return
        self.states.append(weakref.ref(states))
        if self.where == "forward":
            raise torch.OutOfMemoryError("CUDA out of memory.")
        # By then the gradients of the head and of later layers are there.
        states.register_hook(self.fail)

    def fail(self, gradient):
        raise torch.OutOfMemoryError("CUDA out of memory.")


@pytest.mark.parametrize("budget", [None, "100000"])
@pytest.mark.parametrize("where", ["forward", "backward"])
def test_a_step_that_runs_out_of_memory_is_done_again_in_smaller_parts(
    make_trainer, tiny_model, model_of_either_kind, caplog, where, budget
):
    whole = make_trainer(tiny_model, **ROWS)
    loss, gradient = loss_and_gradient(whole)
    memory = SmallMemory(model_of_either_kind, 300, where)
    trainer = make_trainer(model_of_either_kind, **ROWS, max_tokens_per_batch=budget)
    other_loss, other_gradient = loss_and_gradient(trainer)
    assert memory.passes[0] > 300 >= max(memory.passes[-2:])
    assert loss == pytest.approx(other_loss, abs=1e-5)
    assert gradient.abs().max() > 1e-3
    torch.testing.assert_close(gradient, other_gradient, rtol=0, atol=1e-5)
    assert trainer.trained_rows_and_tokens() == whole.trained_rows_and_tokens()
    assert set(memory.kept) == {0}, "nothing of a failed attempt stays in memory"
    assert caplog.text.count("Memory ran out in step 1") == 1
    assert f"at most {trainer.max_tokens:,} tokens" in caplog.text
    assert trainer.counts()["max_tokens"] == trainer.max_tokens <= 300


def test_parts_before_the_one_that_failed_count_once(make_trainer, model_of_either_kind, tiny_model):
    _, gradient = loss_and_gradient(make_trainer(tiny_model, **ROWS))
    memory = SmallMemory(model_of_either_kind, 150, "backward", after=2)
    _, other_gradient = loss_and_gradient(make_trainer(model_of_either_kind, **ROWS, max_tokens_per_batch="200"))
    assert [tokens > 150 for tokens in memory.passes[:3]] == [True] * 3
    torch.testing.assert_close(gradient, other_gradient, rtol=0, atol=1e-5)


@pytest.mark.parametrize("workers", [0, 1])
def test_later_batches_are_cut_so_too_and_it_is_said_once(make_trainer, tiny_model, caplog, workers):
    """Some were cut before, by the loader, which is a batch ahead, and by its processes, which know nothing of it."""
    options = {"per_device_train_batch_size": 16, "num_train_epochs": 2, "dataloader_num_workers": workers}
    plain_model = copy.deepcopy(tiny_model)
    memory = SmallMemory(tiny_model, 350)
    trainer = make_trainer(tiny_model, **options)
    trainer.train()
    assert memory.passes[0] > 350 >= max(memory.passes[1:])
    assert caplog.text.count("Memory ran out") == 1
    plain = make_trainer(plain_model, **options, max_tokens_per_batch=str(trainer.max_tokens))
    plain.train()
    assert torch.equal(weights_of(plain), weights_of(trainer))
    assert trainer.trained_rows_and_tokens() == plain.trained_rows_and_tokens()


def test_a_run_that_goes_on_keeps_the_smaller_parts(make_trainer, caplog):
    for before, budget in (("500", 50), (None, 50)):
        trainer = make_trainer(max_tokens_per_batch=before)
        with caplog.at_level("INFO", logger="toxicity"):
            trainer.restore_counts({"trained_rows": 0, "trained_tokens": 0, "max_tokens": budget})
        assert trainer.max_tokens == budget
        assert "At most 50 tokens at a time, as before the interruption" in caplog.text


def test_a_comment_that_does_not_fit_by_itself_is_refused(make_trainer, tiny_model):
    SmallMemory(tiny_model, 3)
    with pytest.raises(
        RequestError,
        match=r"no room for the training on a comment of \d+ tokens.\nNo checkpoint was .*--max_seq_length",
    ):
        make_trainer(tiny_model, **ROWS, max_tokens_per_batch="80").train()


def test_a_comment_that_does_not_fit_with_its_copies_is_refused(make_trainer, tiny_model, tokenizer):
    rows = dataset_of(tokenizer)
    both, originals = with_copies(rows)
    objective = Objective(np.array(rows["labels"][:], np.float32), None, (), None, np.ones(1, np.float32), pairing=0.5)
    SmallMemory(tiny_model, max(rows["length"]))
    objective = replace(objective, originals=originals)
    trainer = make_trainer(tiny_model, dataset=both, objective=objective, **ROWS | {"max_steps": 2})
    with pytest.raises(
        RequestError, match=r"a comment and its copies of (?s:.*)--max_seq_length or fewer --counterfactuals"
    ):
        trainer.train()


@pytest.mark.parametrize(("after", "fails"), [(0, False), (1, True)])
def test_gradients_of_an_earlier_batch_of_the_step_are_not_lost(make_trainer, tiny_model, after, fails):
    SmallMemory(tiny_model, 150, after=after)
    trainer = make_trainer(
        tiny_model, per_device_train_batch_size=8, gradient_accumulation_steps=4, max_steps=1, save_strategy="no"
    )
    if not fails:
        trainer.train()
        assert trainer.max_tokens <= 150
        return
    with pytest.raises(RunFailure, match="memory ran out in step 1.*\n.*auto and a --max_tokens_per_batch"):
        trainer.train()


def test_other_faults_are_raised_as_they_are(make_trainer, tiny_model, monkeypatch):
    trainer = make_trainer(tiny_model)
    tiny_model.register_forward_pre_hook(lambda *_: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="size"):
        trainer.train()
