"""Learning rates that fall from the head of a model to its embeddings."""

from __future__ import annotations

import re

import torch
from torch import nn

from toxicity.errors import RequestError

# `bert.encoder.layer.3.`, `model.layers.3.`, `distilbert.transformer.layer.3.`
LAYER = re.compile(r"\blayers?\.(\d+)\.")


def depths(names: list[str]) -> dict[str, int]:
    """How far each parameter is from the head: 0 for the head and the pooler, 1 for the last layer, and so on.

    Embeddings come after the first layer, and what belongs to no layer goes with the head.

    Args:
        names: of a model's parameters.

    Raises:
        RequestError: if the model has no numbered layers, as where one is used again and again.
    """
    numbers = {name: int(match[1]) for name in names if (match := LAYER.search(name))}
    if not numbers:
        raise RequestError("--layerwise_lr_decay needs a model with numbered layers, which this one has not.")
    layers = max(numbers.values()) + 1
    below = {name: layers + 1 for name in names if "embeddings" in name and name not in numbers}
    return dict.fromkeys(names, 0) | below | {name: layers - number for name, number in numbers.items()}


def decay_layer_rates(optimizer: torch.optim.Optimizer, model: nn.Module, decay: float) -> None:
    """Divide the groups of an optimiser by layers, each with a learning rate of `decay` times the one above it.

    The head has the rate that the optimiser was made with, and comes first, so that it is the one in the log. (Howard
    and Ruder 2018, "Universal Language Model Fine-tuning for Text Classification", section 3.2.)

    Args:
        optimizer: of the model's parameters, before its first step.
        model: whose names tell the layers.
        decay: above 0, below 1.

    Raises:
        RequestError: if the model has no numbered layers.
    """
    of_name = depths([name for name, _ in model.named_parameters()])
    of_parameter = {parameter: of_name[name] for name, parameter in model.named_parameters()}
    groups = []
    for depth in sorted(set(of_name.values())):
        for group in optimizer.param_groups:
            if members := [parameter for parameter in group["params"] if of_parameter[parameter] == depth]:
                groups.append(group | {"params": members, "lr": group["lr"] * decay**depth})
    optimizer.param_groups[:] = groups
