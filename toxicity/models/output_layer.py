"""The last layer of a classifier's head, whose outputs are the logits."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.functional import linear

from toxicity.core.errors import RequestError
from toxicity.models.cpu_layers import Linear

if TYPE_CHECKING:  # see `pretrained`
    from transformers import PreTrainedModel


class OutputLayer(Linear):
    """A head's last layer, which computes in fp32 under autocast too.

    That costs nothing here, and logits with the 8 significant bits of bf16 would give many equal scores.
    """

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Logits, in fp32 or the wider type of the weights."""
        with torch.autocast(states.device.type, enabled=False):
            if self.weight.dtype in (torch.float16, torch.bfloat16):  # as FSDP gathers them
                bias = None if self.bias is None else self.bias.float()
                return linear(states.float(), self.weight.float(), bias)
            return super().forward(states.to(self.weight.dtype))


def output_layer(model: PreTrainedModel) -> tuple[str, nn.Linear]:
    """Name and module of the head's last layer, whose outputs are the logits.

    Raises:
        RequestError: if the head does not end with a linear layer.
    """
    encoder = f"{model.base_model_prefix}."
    layers = [
        (name, layer)
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear)
        and layer.out_features == model.config.num_labels
        and not name.startswith(encoder)
    ]
    if not layers:
        raise RequestError(
            f"the head of {type(model).__name__} ends with no linear layer: set --init_head_bias false, and leave "
            "--auxiliary_targets out."
        )
    return layers[-1]


def compute_logits_in_fp32(model: PreTrainedModel) -> None:
    """Make a head's last layer an `OutputLayer`, if the head ends with a linear one."""
    with suppress(RequestError):
        output_layer(model)[1].__class__ = OutputLayer
