"""How many tokens go through the model at once: as asked for, or as many as the memory of a GPU has room for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils.memory import clear_device_cache
from torch import nn

from toxicity.core import distributed
from toxicity.core.errors import RequestError
from toxicity.core.training_arguments import TrainingArguments
from toxicity.data.token_dataset import TokenRows
from toxicity.hardware.memory import is_out_of_memory, room_of
from toxicity.models.classifier import logits_of
from toxicity.models.packing import Layout, longest_first

# Share of the free memory to plan with: the allocator leaves gaps, and steps differ.
USABLE_SHARE = 0.85
# On a CPU more tokens at once take memory and gain no speed.
CPU_TOKENS = 16_384
# Numbers of DistributedDataParallel's buckets, which are 25 MiB by default (`bucket_cap_mb`).
NUMBERS_PER_BUCKET = 25 * 2**20 // 4


def choose_token_budget(
    args: TrainingArguments, model: nn.Module, layout: Layout, rows: TokenRows, accelerator: Accelerator
) -> int | None:
    """Most tokens that go through the model at once, None where the number of rows alone limits a batch.

    All processes get the smallest budget of any.

    Args:
        args: `max_tokens_per_batch` is a number, `auto`, or None, which is `auto` where `cut_by_memory`.
        model, layout, rows, accelerator: as `measure_token_budget` takes them.

    Raises:
        RequestError: if the device of any process is too small.
    """
    asked = args.max_tokens_per_batch
    if args.cut_by_memory:
        measured = distributed.run_on_all(
            lambda: measure_token_budget(model, layout, rows, args.train_batch_size, accelerator)
        )
        return min(distributed.gather(measured))
    return CPU_TOKENS if asked == "auto" else None if asked is None else int(asked)


def fitting_tokens(
    peak_bytes: Callable[[int], tuple[int, int]],
    free_bytes: int,
    probes: tuple[int, int],
    most: int,
    gradient_bytes: int = 0,
) -> int:
    """Number of tokens, up to `most`, whose forward and backward pass fit; 0 if not even the first probe's do.

    A pass over `most` tokens is tried first. If it does not fit, the number is extrapolated linearly from two small
    passes.

    Args:
        peak_bytes: runs a pass over at least this many tokens. Returns (tokens, peak bytes), or raises
            what `is_out_of_memory` knows.
        probes: tokens of the two small passes, the smaller number first.
        gradient_bytes: of all gradients. A step of several parts computes all but the first while it keeps the
            gradients of those before, which a pass by itself does not.
    """

    def tried(tokens: int) -> tuple[int, float]:
        try:
            return peak_bytes(tokens)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return tokens, float("inf")

    usable = free_bytes * USABLE_SHARE
    if tried(most)[1] <= usable:
        return most
    usable -= gradient_bytes
    fewer, base = tried(probes[0])
    if base > usable:
        return 0
    more, top = tried(probes[1])
    if top == float("inf"):
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

    Every process calls it.

    Args:
        model: on the device, without gradients.
        rows: the training rows. The batches tried have their distribution of lengths, because attention gives short
            rows as much memory as long ones and masks the difference.
        batch_size: rows of a whole optimiser step of this process; the result is at most their tokens.

    Raises:
        RequestError: if the device has no room.
    """
    device = next(model.parameters()).device
    longest = int(rows.lengths.max())

    def peak_bytes(tokens: int) -> tuple[int, int]:
        tried = usual_rows(rows.lengths, tokens, padded=not layout.packed)
        inputs = {name: value.to(device) for name, value in layout(rows.tokens_of(tried)).items()}
        clear_device_cache()  # an earlier pass left it in pieces
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

    gradients = sum(weight.numel() * 4 for weight in model.parameters() if weight.requires_grad)
    # Allocated later, and kept: the two moments of AdamW, and the buckets of DistributedDataParallel, a copy of the
    # gradients (what its `gradient_as_bucket_view` would save: "equal to the total gradients size").
    later = gradients * (3 if accelerator.num_processes > 1 else 2)
    if accelerator.num_processes > 1:
        # NCCL allocates its buffers with the first exchange of the kind (NCCL_RUNTIME_CONNECT in its manual), so there
        # is one before the free memory is read.
        accelerator.reduce(torch.zeros(NUMBERS_PER_BUCKET, device=device))
    was_training = model.training
    model.train()
    try:
        with torch.random.fork_rng([device], device_type=device.type):
            # Memory that torch has reserved and does not use is free too.
            unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
            free = torch.cuda.mem_get_info(device)[0] + unused - later
            probes = (4 if batch_size > 4 else 1) * longest, 16 * longest
            budget = fitting_tokens(peak_bytes, free, probes, batch_size * longest, gradients)
    finally:
        model.train(was_training)
    if not budget:
        raise RequestError(room_of(device, f"the training of this model on {probes[0]:,} tokens at a time"))
    return budget
