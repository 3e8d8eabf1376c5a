"""How many tokens of a training step a GPU has room for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import nn

from toxicity.core.errors import RequestError
from toxicity.data.token_dataset import TokenRows
from toxicity.models.classifier import logits_of
from toxicity.models.packing import Layout, longest_first

# Of what is free, the part to plan with: allocators leave holes, and steps differ.
USABLE_SHARE = 0.85


def fitting_tokens(
    peak_bytes: Callable[[int], tuple[int, int]], free_bytes: int, probes: tuple[int, int], most: int
) -> int:
    """The most tokens whose forward and backward pass fit, from two small passes: memory grows with tokens in a line.

    Args:
        peak_bytes: runs a pass over at least so many tokens, and gives how many they were and what it took at its
            highest, in bytes; or raises `torch.OutOfMemoryError`.
        free_bytes: what there is.
        probes: tokens of the two passes, the fewer first.
        most: never more than this.

    Raises:
        RequestError: if not even the first pass's tokens fit.
    """
    usable = free_bytes * USABLE_SHARE
    try:
        fewer, base = peak_bytes(probes[0])
    except torch.OutOfMemoryError:
        fewer, base = probes[0], free_bytes
    if base > usable:
        raise RequestError(
            f"the device has no room to train this model on {fewer:,} tokens at a time: choose a smaller "
            "--model_name_or_path, or a card with more memory."
        )
    try:
        more, top = peak_bytes(probes[1])
    except torch.OutOfMemoryError:
        return min(fewer, most)
    bytes_per_token = max(1.0, (top - base) / (more - fewer))
    return min(fewer + int((usable - base) / bytes_per_token), most)


def usual_rows(lengths: np.ndarray, tokens: int, padded: bool) -> np.ndarray:
    """Rows of all lengths that there are, as often as there are, with at least so many tokens together.

    Args:
        lengths: tokens of each row.
        tokens: how many are wanted.
        padded: whether all rows of a batch take as much room as its longest.

    Returns:
        int64 `(rows,)` indices, longest first; the longest of all is always among them, and small `lengths` repeat.
    """
    order = longest_first(lengths)
    count = -(-tokens // int(lengths.max() if padded else lengths.mean()))
    return order[np.linspace(0, len(order) - 1, count).astype(int)]


def measure_token_budget(
    model: nn.Module,
    layout: Layout,
    rows: TokenRows,
    most: int,
    autocast: Callable[[], AbstractContextManager],
    distributed: bool,
) -> int:
    """Try how many tokens a CUDA device can train on at once; neither weights nor random numbers notice.

    Args:
        model: on the device, with no gradients.
        layout: how it takes comments.
        rows: the comments of the training. What is tried are batches with their lengths: to attend, a GPU gives short
            comments the room of long ones, and masks what is not theirs.
        most: tokens that a whole step has at the most.
        autocast: gives the context to compute in.
        distributed: whether gradients are exchanged between processes.

    Raises:
        RequestError: if the device is too small.
    """
    device = next(model.parameters()).device
    longest = int(rows.lengths.max())

    def peak_bytes(tokens: int) -> tuple[int, int]:
        tried = usual_rows(rows.lengths, tokens, padded=not layout.packed)
        inputs = {name: value.to(device) for name, value in layout(rows.tokens_of(tried)).items()}
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        try:
            with autocast():
                logits = logits_of(model(**inputs))
            logits.float().sum().backward()
        finally:
            model.zero_grad(set_to_none=True)
        tokens = int(rows.lengths[tried].sum()) if layout.packed else len(tried) * longest
        return tokens, torch.cuda.max_memory_allocated(device) - before

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
