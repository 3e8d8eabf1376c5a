"""An exponential moving average of the weights, kept beside those that are trained."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from transformers import TrainerCallback

from toxicity.models.scoring import without_wrapped_forward

FILE = "average.safetensors"


class WeightAverage(TrainerCallback):
    """`average = d average + (1 - d) weights` after each optimiser step, with `d = min(decay, (1 + t) / (10 + t))`.

    The smaller d of the first steps t lets the average forget the pretrained weights that it starts from; TensorFlow's
    `ExponentialMovingAverage(num_updates=t)` has the same.

    Args:
        model: whose weights are averaged, on its device.
        decay: above 0, below 1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = model
        self.decay = decay
        self.weights = {name: weight.detach().clone() for name, weight in self._trained()}

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take the weights of this step in."""
        decay = min(self.decay, (1 + state.global_step) / (10 + state.global_step))
        now = [weight.detach() for _, weight in self._trained()]
        get_ema_multi_avg_fn(decay)(list(self.weights.values()), now, state.global_step)

    def model_with_it(self) -> nn.Module:
        """A copy of the model that has the average for its weights."""
        twin = without_wrapped_forward(copy.deepcopy(self.model))
        twin.load_state_dict(self.weights, strict=False)
        return twin

    def save(self, folder: Path) -> None:
        """Write it beside the weights of a checkpoint."""
        save_file({name: weight.cpu() for name, weight in self.weights.items()}, folder / FILE)

    def load(self, folder: Path) -> None:
        """Go on from what `save` wrote."""
        for name, weight in load_file(folder / FILE).items():
            self.weights[name].copy_(weight)

    def _trained(self) -> list[tuple[str, torch.Tensor]]:
        return [(name, weight) for name, weight in self.model.named_parameters() if weight.requires_grad]
