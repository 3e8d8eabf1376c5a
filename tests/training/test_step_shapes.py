"""The shape of an optimiser step, its accumulation, parts and processes, changes neither loss nor gradient."""

import copy

import numpy as np
import pytest
import torch
from processes import run_ranks
from training_steps import (
    ONE_STEP,
    dataset_of,
    loss_and_gradient,
    objective_with,
    objective_with_labels,
    steps_of_this_process,
)

SHAPES = {
    "4 x 8": {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 4},
    "cut by tokens": {"per_device_train_batch_size": 32, "max_tokens_per_batch": "100"},
    "4 x 8 cut by tokens": {
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 4,
        "max_tokens_per_batch": "100",
    },
    "a comment at a time": {"per_device_train_batch_size": 32, "max_tokens_per_batch": "1"},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_shape_of_a_step_changes_neither_loss_nor_gradient(make_trainer, model_of_either_kind, shape):
    whole = make_trainer(copy.deepcopy(model_of_either_kind), **ONE_STEP, per_device_train_batch_size=32)
    loss, gradient = loss_and_gradient(whole)
    other = make_trainer(model_of_either_kind, **ONE_STEP, **SHAPES[shape])
    other_loss, other_gradient = loss_and_gradient(other)
    assert loss == pytest.approx(other_loss, abs=1e-5)
    assert gradient.abs().max() > 1e-3
    torch.testing.assert_close(gradient, other_gradient, rtol=0, atol=1e-5)
    assert other.trained_rows_and_tokens() == whole.trained_rows_and_tokens()
    assert other.trained_rows_and_tokens()[0] == 32


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("several", [False, True])
def test_the_shape_of_a_step_changes_nothing_for_weights_labels_and_auxiliary_targets(
    make_trainer, model_of_three, model_of_labels, tokenizer, shape, several
):
    dataset = dataset_of(tokenizer)
    objective = objective_with_labels(dataset) if several else objective_with(dataset, ("insult", "male"))
    options, model = ONE_STEP | {"objective": objective}, model_of_labels if several else model_of_three
    loss, gradient = loss_and_gradient(make_trainer(copy.deepcopy(model), **options, per_device_train_batch_size=32))
    other_loss, other_gradient = loss_and_gradient(make_trainer(model, **options, **SHAPES[shape]))
    assert loss == pytest.approx(other_loss, abs=1e-5)
    assert gradient.abs().max() > 1e-3
    torch.testing.assert_close(gradient, other_gradient, rtol=0, atol=1e-5)


def test_the_last_step_of_an_epoch_is_the_mean_over_its_comments(make_trainer):
    """64 comments are steps of 24, 24 and 16, accumulated from 6, 6, 6, 6 and 6, 6, 4."""
    options = ONE_STEP | {"max_steps": -1}
    whole = make_trainer(**options, per_device_train_batch_size=24)
    _, gradient = loss_and_gradient(whole)
    cut = make_trainer(**options, per_device_train_batch_size=6, gradient_accumulation_steps=4)
    _, other_gradient = loss_and_gradient(cut)
    losses = [[entry.get("loss") for entry in trainer.state.log_history[:3]] for trainer in (whole, cut)]
    np.testing.assert_allclose(*losses, atol=1e-5)
    assert whole.state.global_step == cut.state.global_step == 3
    torch.testing.assert_close(gradient, other_gradient, rtol=0, atol=1e-5)


@pytest.mark.parametrize("unused_weights", [False, True])
def test_two_processes_do_the_step_of_one(checkpoint, tmp_path, unused_weights):
    results = []
    for processes, batch_size in ((1, 32), (2, 16)):
        folder = tmp_path / str(processes)
        folder.mkdir()
        run_ranks(processes, steps_of_this_process, checkpoint, folder, batch_size, unused_weights)
        results.append(torch.load(folder / "steps.pt"))
    (alone, one), (together, two) = results
    assert (one, two) == (1, 2)
    for (loss, gradient, scores), (other_loss, other_gradient, other_scores) in zip(alone, together, strict=True):
        assert loss == pytest.approx(other_loss, abs=1e-5)
        assert gradient.abs().max() > 1e-3
        torch.testing.assert_close(gradient, other_gradient, rtol=0, atol=1e-5)
        torch.testing.assert_close(scores, other_scores, rtol=0, atol=1e-5)
    (plain, *_), (with_auxiliary, *_), (several, _, scores), (with_copies, *_) = alone
    assert scores.shape == (64, 3)
    assert several + 1e-3 < with_copies
    assert plain != pytest.approx(with_auxiliary, abs=0.1)
