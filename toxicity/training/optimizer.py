"""Layer-wise learning rate decay: the learning rate falls from the head of a model to its embeddings."""

from __future__ import annotations

import re

import torch
from transformers import PreTrainedModel

from toxicity.core.errors import RequestError

# `bert.encoder.layer.3.`, `model.layers.3.`, `distilbert.transformer.layer.3.`, `transformer.h.3.`
LAYER = re.compile(r"\b(?:layers?|h)\.(\d+)\.")
# Modules of an encoder that come after its last layer.
AFTER_THE_LAYERS = re.compile(r"pooler\.|(final_norm|ln_f|norm)\.")


def depths(model: PreTrainedModel) -> dict[str, int]:
    """Distance of each parameter from the logits: 0 for the head and the pooler, 1 for the last layer, and so on.

    Parameters outside of the layers, such as the embeddings, are one below the lowest layer.

    Raises:
        RequestError: if the model has no single stack of numbered layers: one shared layer, or encoder and decoder.
    """
    names, encoder = [name for name, _ in model.named_parameters()], f"{model.base_model_prefix}."
    numbers = {name: int(match[1]) for name in names if (match := LAYER.search(name))}
    if not numbers or model.config.is_encoder_decoder:
        raise RequestError(
            f"--layerwise_lr_decay needs one stack of numbered layers, which {type(model).__name__} has not: "
            "leave it out."
        )
    layers = max(numbers.values()) + 1

    def depth(name: str) -> int:
        if name in numbers:
            return layers - numbers[name]
        inside = name.startswith(encoder) and not AFTER_THE_LAYERS.match(name.removeprefix(encoder))
        return layers + 1 if inside else 0

    return {name: depth(name) for name in names}


def decay_layer_rates(optimizer: torch.optim.Optimizer, model: PreTrainedModel, decay: float) -> None:
    """Split the parameter groups of an optimiser by layer, each with `decay` times the learning rate of the one above.

    The head keeps the optimiser's learning rate, and its group comes first, which is the one that the Trainer logs.
    (Howard and Ruder 2018, "Universal Language Model Fine-tuning for Text Classification", section 3.2.)

    Args:
        optimizer: of the model's parameters, before its first step.
        decay: above 0, below 1.

    Raises:
        RequestError: as `depths`.
    """
    depth_by_name = depths(model)
    depth_of = {parameter: depth_by_name[name] for name, parameter in model.named_parameters()}
    groups = []
    for depth in sorted(set(depth_by_name.values())):
        for group in optimizer.param_groups:
            if members := [parameter for parameter in group["params"] if depth_of[parameter] == depth]:
                groups.append(group | {"params": members, "lr": group["lr"] * decay**depth})
    optimizer.param_groups[:] = groups
