"""An optimiser step that a GPU could do without the host waiting for it."""

import copy

import pytest
import torch
from launches import watch_waits
from transformers import TrainerCallback


class Watch(TrainerCallback):
    """Watches from the first step's begin to the last step's end; without it, nothing of the training is left out."""

    def __init__(self):
        self.waits, self.watching = [], None

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 1:
            self.watching = watch_waits()
            self.waits = self.watching.__enter__()

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == state.max_steps - 1:
            self.watching.__exit__(None, None, None)


OPTIONS = {
    "as it is": {},
    "without clipping": {"max_grad_norm": 0.0},
    "accumulated": {"gradient_accumulation_steps": 2},
    "in parts": {"max_tokens_per_batch": "60"},
    "weighted": {"auxiliary": ("insult", "male")},
}


@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("options", OPTIONS)
def test_a_step_waits_for_nothing(make_trainer, model_of_either_kind, model_of_three, options, precision):
    options = OPTIONS[options]
    model = model_of_three if "auxiliary" in options else model_of_either_kind
    trainer = make_trainer(copy.deepcopy(model), precision, max_steps=4, **options)
    watch = Watch()
    trainer.add_callback(watch)
    # It reads the losses about once a second, which is a wait; so does a log.
    trainer.monitor._check_is_due = lambda activity: False
    trainer.train()
    assert watch.watching is not None
    assert not watch.waits, "\n".join(watch.waits)


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
