"""An optimiser step that a GPU could do without the host waiting for it."""

import pytest
import torch
from launches import watch_waits
from transformers import TrainerCallback


class Watch(TrainerCallback):
    """Watches from the begin of the second step to the end of the last one."""

    def __init__(self):
        self.waits, self.watching = [], None

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 1:
            self.watching = watch_waits()
            self.waits = self.watching.__enter__()

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == state.max_steps:
            self.watching.__exit__(None, None, None)


# The default from torch 2.8 on; the other one reads the number of its step, which lies on the host.
FUSED = {"optim": "adamw_torch_fused", "max_steps": 3}
OPTIONS = {
    "in fp32": {"precision": "no"},
    # On a GPU its scaler looks for overflows in the fused optimiser, and waits for nothing either.
    "in fp16": {"precision": "fp16", "max_grad_norm": 0.0},
    "accumulated": {"gradient_accumulation_steps": 2},
    "in parts": {"max_tokens_per_batch": "60", "max_grad_norm": 0.0},
}


@pytest.mark.parametrize("options", OPTIONS)
def test_a_step_waits_for_nothing(make_trainer, model_of_either_kind, options):
    assert_no_waits(make_trainer(model_of_either_kind, **{"precision": "bf16"} | FUSED | OPTIONS[options]))


def test_auxiliary_targets_are_no_reason_to_wait(make_trainer, model_of_three):
    assert_no_waits(make_trainer(model_of_three, "bf16", auxiliary=("insult", "male"), **FUSED))


def assert_no_waits(trainer):
    watch = Watch()
    trainer.add_callback(watch)
    # It reads the losses about once a second, which is a wait; so does a log.
    trainer.monitor._check_is_due = lambda activity: False
    trainer.train()
    assert watch.watching is not None
    # On a CPU alone, transformers asks whether a mask masks anything (see tests/models/test_attention.py).
    waits = [wait for wait in watch.waits if "masking_utils.py" not in wait]
    assert not waits, "\n".join(waits)


def test_waits_are_found():
    tensor = torch.ones(3)
    for wait in (
        lambda: tensor.sum().item(),
        lambda: bool(tensor.sum() > 1),
        lambda: float(tensor[0]),
        lambda: tensor.tolist(),
        lambda: tensor.cpu(),
        lambda: tensor.to("cpu"),
        lambda: tensor.numpy(),
        lambda: tensor[tensor > 0],
        lambda: tensor.nonzero(),
        lambda: torch.tensor(1.0),
        lambda: torch.equal(tensor, tensor),
    ):
        with watch_waits() as waits:
            wait()
        assert waits
    with watch_waits() as waits:
        tensor.mul_(2).sum().add(1)
    assert not waits
