"""How many tokens of a training step a GPU has room for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import nn

from toxicity.errors import RequestError
from toxicity.layout import Layout
from toxicity.modeling import logits_of

# Of what is free, the part to plan with: allocators leave holes, and steps differ.
USABLE_SHARE = 0.85


def fitting_tokens(peak_bytes: Callable[[int], int], free_bytes: int, probes: tuple[int, int], most: int) -> int:
    """The most tokens whose forward and backward pass fit, from two small passes: memory grows with tokens in a line.

    Args:
        peak_bytes: runs a pass over at least so many tokens and gives what it took at its highest, in bytes.
        free_bytes: what there is.
        probes: tokens of the two passes, the fewer first.
        most: never more than this.

    Raises:
        RequestError: if not even the first pass's tokens fit.
    """
    fewer, more = probes
    base, top = peak_bytes(fewer), peak_bytes(more)
    bytes_per_token = max(1.0, (top - base) / (more - fewer))
    tokens = fewer + int((free_bytes * USABLE_SHARE - base) / bytes_per_token)
    if tokens < fewer:
        raise RequestError(
            f"the device has room for {max(0, tokens)} tokens at a time, too few to train this model: "
            "choose a smaller --model_name_or_path, or a card with more memory."
        )
    return min(tokens, most)


def measure_token_budget(
    model: nn.Module,
    layout: Layout,
    longest: int,
    most: int,
    autocast: Callable[[], AbstractContextManager],
    distributed: bool,
) -> int:
    """Try how many tokens a CUDA device can train on at once; neither weights nor random numbers notice.

    Args:
        model: on the device, with no gradients.
        layout: how it takes comments.
        longest: tokens of the longest comment, the least that must fit.
        most: tokens that a whole step has at the most.
        autocast: gives the context to compute in.
        distributed: whether gradients are exchanged between processes.

    Raises:
        RequestError: if the device is too small.
    """
    device = next(model.parameters()).device

    def peak_bytes(tokens: int) -> int:
        comment = np.ones(longest, dtype=np.int64)
        inputs = {name: value.to(device) for name, value in layout([comment] * (tokens // longest)).items()}
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        with autocast():
            logits = logits_of(model(**inputs))
        logits.float().sum().backward()
        model.zero_grad(set_to_none=True)
        return torch.cuda.max_memory_allocated(device) - before

    # What comes later and stays: the two moments of AdamW, and a copy of the gradients to exchange them from.
    later = sum(weight.numel() * 4 for weight in model.parameters()) * (3 if distributed else 2)
    was_training = model.training
    model.train()
    try:
        with torch.random.fork_rng([device], device_type=device.type):
            probes = 4 * longest, 16 * longest
            # What torch keeps for itself but does not use is free too.
            unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
            free = torch.cuda.mem_get_info(device)[0] + unused - later
            return fitting_tokens(peak_bytes, free, probes, most)
    finally:
        model.train(was_training)
