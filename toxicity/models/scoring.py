"""Logits for many comments: longest first, in batches of like length, handed back in the order they came in."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import nn

from toxicity.core.errors import RunFailure
from toxicity.data.token_dataset import TokenRows
from toxicity.models.classifier import logits_of
from toxicity.models.packing import Layout, fill_batches, longest_first

logger = logging.getLogger(__name__)


def score_rows(
    model: nn.Module,
    rows: TokenRows,
    layout: Layout,
    max_tokens: int,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager] = nullcontext,
    rank: int = 0,
    world_size: int = 1,
    on_batch: Callable[[int], object] = lambda batches: None,
    in_halves: bool = True,
) -> torch.Tensor:
    """Score rows; nothing waits for the device before the caller looks at the result.

    All processes call the model equally often, so that it may be sharded over them.

    Args:
        model: a classifier on `device`; it is put into evaluation mode and back.
        rows: the comments.
        layout: how the model takes them.
        max_tokens: most tokens of a batch (padding counted, where the layout pads); a longer comment goes alone.
        device: that of the model.
        autocast: gives the context to compute in.
        rank: of this process.
        world_size: how many processes share the rows: each one scores every `world_size`-th batch.
        on_batch: called before each batch with the number of batches that this process scores.
        in_halves: whether a batch that does not fit the device's memory is scored in two halves. Of a sharded model
            that would be a call more than the other processes make, which wait for each other.

    Returns:
        float32 `(rows, labels)` on `device`, in the order of `rows`; zero for those of other processes' batches, so
        that the sum over the processes is all of them.

    Raises:
        RunFailure: if a batch does not fit and is not to be halved.
    """
    order = longest_first(rows.lengths)
    batches = [order[part] for part in fill_batches(rows.lengths[order], max_tokens, padded=not layout.packed)]
    mine = batches[rank::world_size]
    calls = -(-len(batches) // world_size)
    scored = []
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), autocast():
            for batch in [*mine, *batches[-1:]][:calls]:
                on_batch(calls)
                scored.append(_score_batch(model, rows, batch, layout, device, in_halves))
    finally:
        model.train(was_training)
    logits = torch.cat(scored)
    result = logits.new_zeros(len(rows), logits.shape[1])
    places = np.concatenate([np.empty(0, np.int64), *mine])
    result[torch.from_numpy(places).to(device, non_blocking=True)] = logits[: len(places)]
    return result


def _score_batch(
    model: nn.Module, rows: TokenRows, batch: np.ndarray, layout: Layout, device: torch.device, in_halves: bool
) -> torch.Tensor:
    inputs = layout(rows.tokens_of(batch))
    try:
        if device.type == "cuda":
            # Memory that may be paged out would be copied only when the device has done all it was given.
            inputs = {name: value.pin_memory() for name, value in inputs.items()}
        inputs = {name: value.to(device, non_blocking=True) for name, value in inputs.items()}
        return logits_of(model(**inputs)).float()
    except torch.OutOfMemoryError as error:
        if not in_halves:
            raise RunFailure(
                f"{len(batch):,} comments do not fit the device's memory together, and a sharded model is not called "
                "for fewer: choose a smaller --per_device_eval_batch_size."
            ) from error
        if len(batch) == 1:
            raise
    # Outside the handler, which keeps the tensors of the failed call alive.
    logger.warning(f"{len(batch):,} comments do not fit the device's memory together: scoring them in two halves.")
    del inputs
    torch.cuda.empty_cache()
    halves = batch[: len(batch) // 2], batch[len(batch) // 2 :]
    return torch.cat([_score_batch(model, rows, half, layout, device, in_halves) for half in halves])


def in_bfloat16(model: nn.Module, layout: Layout) -> nn.Module:
    """A copy of a model with bf16 weights, for scoring: autocast would convert the weights again for every batch.

    On packed batches the last layer computes in fp32, and keeps its weights.
    """
    twin = without_wrapped_forward(copy.deepcopy(model))
    (twin.bert if layout.packed else twin).to(torch.bfloat16)
    return twin


def without_wrapped_forward(twin: nn.Module) -> nn.Module:
    """A copy of a model as its class has it: Accelerate's autocasting forward would call the original."""
    for name in ("forward", "_original_forward"):
        twin.__dict__.pop(name, None)
    return twin
