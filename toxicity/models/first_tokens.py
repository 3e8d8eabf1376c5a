"""The last encoder layer, computed for the first token of each comment alone: the head looks at no other.

Its attention sees all tokens. What comes after attention treats every token on its own: of the results only the first
tokens' are used, so only they are computed. Logits and gradients stay the same. Of the layer's products with weights,
9 of 12 are saved: an eighth of those of a model with 6 layers, a sixteenth with 12.
"""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from toxicity.models.half_weights import encoder_layers
from toxicity.models.packing import Packing

# Where in a layer each token begins to be treated on its own, in models whose head takes the first token. ALBERT is not
# among them, as its layers are one module.
AFTER_ATTENTION = {
    "bert": "attention.output",
    "camembert": "attention.output",
    "data2vec-text": "attention.output",
    "distilbert": "sa_layer_norm",
    "electra": "attention.output",
    "ernie": "attention.output",
    "roberta": "attention.output",
    "roberta-prelayernorm": "attention.output",
    "xlm-roberta": "attention.output",
    "xlm-roberta-xl": "attention.output",
}
# The packing of the batch that the last layer computes, in each thread.
_batch = threading.local()


def compute_first_tokens_only(model: PreTrainedModel) -> None:
    """Make the last layer of a classifier compute what comes after attention for first tokens only, where it can.

    That is so for packed batches (see `packing.Layout`); padded ones are computed as ever.
    """
    name, layers = AFTER_ATTENTION.get(model.config.model_type), encoder_layers(model)
    if name is None or getattr(model.config, "is_decoder", False) or not layers:
        return
    layers[-1].register_forward_pre_hook(_note_packing, with_kwargs=True)
    layers[-1].get_submodule(name).register_forward_pre_hook(_take_first_tokens)


def first_tokens(states: torch.Tensor, packing: Packing) -> torch.Tensor:
    """The states of first tokens, `(rows, width)`, from those of all tokens or of the first ones, `(1, …, width)`."""
    states = states.squeeze(0)
    if len(states) == len(packing.first_tokens):  # if these are all tokens, each comment has a single one
        return states
    return states.index_select(0, packing.first_tokens)


def _note_packing(layer: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    _batch.packing = options.get("packing")


def _take_first_tokens(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
    packing = _batch.packing
    return None if packing is None else tuple(first_tokens(states, packing)[None] for states in inputs)
