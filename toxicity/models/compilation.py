"""torch.compile of an encoder's layers, with graphs that serve all of them and batches of any shape."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface

from toxicity.models.attention import PACKED_ATTENTION, packed_attention
from toxicity.models.half_weights import encoder_layers


def compile_layers(model: nn.Module, **options: Any) -> int:
    """Compile each layer of a model in place, when it is first called; returns how many there are.

    All layers of a kind share their graphs, in which the number of tokens is a symbol. So they are made once for
    training and once for scoring, whatever the batches. Names of weights stay what they are, and a deep copy of the
    model is not compiled. A model without numbered layers is compiled as a whole.

    Args:
        options: of `torch.compile`: `backend`, `mode`, `options`.
    """
    # The attention of a packed batch goes by how long its comments are, and would be compiled anew for each batch.
    AttentionInterface.register(PACKED_ATTENTION, torch.compiler.disable(packed_attention))
    layers = encoder_layers(model) or [model]
    for layer in layers:
        layer.compile(dynamic=True, **options)
    return len(layers)
