"""Which weights of a model take part in its logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from toxicity.models.classifier import logits_of


def weights_without_gradient(model: nn.Module, input_ids: Sequence[int]) -> list[str]:
    """Names of the trainable weights on which the logits of a comment do not depend; the model stays as it is.

    Args:
        model: a classifier without gradients.
        input_ids: token ids of a comment.
    """
    was_training = model.training
    model.eval()  # so that dropout draws no random numbers
    try:
        tokens = torch.tensor([list(input_ids)], device=next(model.parameters()).device)
        logits_of(model(input_ids=tokens)).sum().backward()
        return [name for name, weight in model.named_parameters() if weight.requires_grad and weight.grad is None]
    finally:
        model.zero_grad(set_to_none=True)
        model.train(was_training)
