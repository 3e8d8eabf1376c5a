"""How many tokens go through the model at once: as asked for, or as many as the memory of a GPU has room for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from toxicity.core.errors import RequestError
from toxicity.core.training_arguments import TrainingArguments
from toxicity.data.token_dataset import TokenRows
from toxicity.models.classifier import logits_of
from toxicity.models.packing import Layout, longest_first

# Share of the free memory to plan with: the allocator leaves gaps, and steps differ.
USABLE_SHARE = 0.85
# On a CPU more tokens at once take memory and gain no speed.
CPU_TOKENS = 16_384


def choose_token_budget(
    args: TrainingArguments, model: nn.Module, layout: Layout, rows: TokenRows, accelerator: Accelerator
) -> int | None:
    """Most tokens that go through the model at once, None where the number of rows alone limits a batch.

    All processes get the smallest budget of any.

    Args:
        args: `max_tokens_per_batch` is a number, None or `auto`: 16,384 on a CPU, measured on a GPU.
        model, layout, rows, accelerator: as `measure_token_budget` takes them.

    Raises:
        RequestError: if the device is too small.
    """
    asked = args.max_tokens_per_batch
    if asked != "auto":
        return None if asked is None else int(asked)
    if args.device.type != "cuda":
        return CPU_TOKENS
    budget = measure_token_budget(model, layout, rows, args.train_batch_size, accelerator)
    return int(accelerator.gather(torch.tensor([budget], device=args.device)).min())


def fitting_tokens(
    peak_bytes: Callable[[int], tuple[int, int]], free_bytes: int, probes: tuple[int, int], most: int
) -> int:
    """Number of tokens, up to `most`, whose forward and backward pass fit, extrapolated linearly from two small passes.

    Args:
        peak_bytes: runs a pass over at least this many tokens. Returns (tokens, peak bytes), or raises
            `torch.OutOfMemoryError`.
        probes: tokens of the two passes, the smaller number first.

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
    """Indices of rows with the given distribution of lengths and at least `tokens` tokens in all, longest first.

    The longest row of all is always among them; where `lengths` has too few rows, they repeat. If `padded`, every row
    takes as much room as the longest.
    """
    order = longest_first(lengths)
    count = -(-tokens // int(lengths.max() if padded else lengths.mean()))
    return order[np.linspace(0, len(order) - 1, count).astype(int)]


def measure_token_budget(
    model: nn.Module, layout: Layout, rows: TokenRows, batch_size: int, accelerator: Accelerator
) -> int:
    """Measure how many tokens a CUDA device can train on at once; weights and random state stay as they are.

    Args:
        model: on the device, without gradients.
        rows: the training rows. The batches tried have their distribution of lengths, because attention gives short
            rows as much memory as long ones and masks the difference.
        batch_size: rows of a whole optimiser step of this process; the result is at most their tokens.

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
            with accelerator.autocast():
                logits = logits_of(model(**inputs))
            logits.float().sum().backward()
        finally:
            model.zero_grad(set_to_none=True)
        tokens = int(rows.lengths[tried].sum()) if layout.packed else len(tried) * longest
        return tokens, torch.cuda.max_memory_allocated(device) - before

    # Allocated later, and kept: the two moments of AdamW, and a copy of the gradients where processes exchange them.
    later = sum(weight.numel() * 4 for weight in model.parameters()) * (3 if accelerator.num_processes > 1 else 2)
    was_training = model.training
    model.train()
    try:
        with torch.random.fork_rng([device], device_type=device.type):
            # Memory that torch has reserved and does not use is free too.
            unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
            free = torch.cuda.mem_get_info(device)[0] + unused - later
            return fitting_tokens(peak_bytes, free, (4 * longest, 16 * longest), most=batch_size * longest)
    finally:
        model.train(was_training)
