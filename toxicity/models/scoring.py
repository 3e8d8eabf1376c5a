"""Compute the logits of many comments, in batches of similar length."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from toxicity.core.errors import RunFailure
from toxicity.data.token_dataset import TokenRows
from toxicity.hardware.memory import is_out_of_memory
from toxicity.hardware.precision import precision_name
from toxicity.models.classifier import logits_of
from toxicity.models.output_layer import OutputLayer
from toxicity.models.packing import Layout, fill_batches, longest_first

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BatchScorer:
    """Scores rows with a classifier, longest rows first, and returns logits in the original order of the rows."""

    model: nn.Module  # a classifier on `device`
    layout: Layout
    device: torch.device
    max_tokens: int  # of a batch, including padding if the layout pads; a longer row gets a batch of its own
    autocast: Callable[[], AbstractContextManager] = nullcontext
    # Score a batch that does not fit into the device's memory in two halves. Not for a sharded model: the other
    # processes would not make the additional call, and wait for each other for ever.
    halve_when_full: bool = True
    max_padding: int | None = None  # tokens of padding in a batch, to make lengths alike, from which two are made of it

    def score(
        self,
        rows: TokenRows,
        rank: int = 0,
        world_size: int = 1,
        on_batch: Callable[[int], object] = lambda batches: None,
    ) -> torch.Tensor:
        """Score rows in evaluation mode, without waiting for the device.

        The processes share the rows: process `rank` scores every `world_size`-th batch. All of them call the model
        equally often, as a sharded model requires. `on_batch` is called before each batch, with their number.

        Returns:
            float32 `(rows, labels)` on the device, in the order of `rows`. Rows in batches of other processes are zero,
            so the sum over all processes is the complete result.

        Raises:
            RunFailure: if a batch does not fit into memory and must not be halved.
        """
        order = longest_first(rows.lengths)
        lengths = self.layout.padded_lengths(rows.lengths[order])
        parts = fill_batches(lengths, self.max_tokens, padded=not self.layout.packed, max_padding=self.max_padding)
        batches = [order[part] for part in parts]
        mine = batches[rank::world_size]
        calls = -(-len(batches) // world_size)
        scored = []
        was_training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad(), self.autocast():
                # A process with fewer batches scores the last one of all again, and drops the result.
                for batch in [*mine, *batches[-1:]][:calls]:
                    on_batch(calls)
                    scored.append(self._score_batch(rows, batch))
        finally:
            self.model.train(was_training)
        logits = torch.cat(scored)
        result = logits.new_zeros(len(rows), logits.shape[1])
        places = np.concatenate([np.empty(0, np.int64), *mine])
        result[self._moved({"places": torch.from_numpy(places)})["places"]] = logits[: len(places)]
        return result

    def _moved(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Tensors, and what else has a method `to`, on the device."""
        # A copy from memory that is not pinned would wait until the GPU has finished all earlier work. MPS, which does
        # not wait, would read the memory of tensors that are gone by then (pytorch issue 189690).
        on_cuda = self.device.type == "cuda"
        if on_cuda:
            inputs = {name: value.pin_memory() for name, value in inputs.items()}
        return {name: value.to(self.device, non_blocking=on_cuda) for name, value in inputs.items()}

    def _score_batch(self, rows: TokenRows, batch: np.ndarray) -> torch.Tensor:
        inputs = self.layout(rows.tokens_of(batch))
        try:
            inputs = self._moved(inputs)
            return logits_of(self.model(**inputs)).float()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if not self.halve_when_full:
                raise RunFailure(
                    f"{len(batch):,} comments do not fit the device's memory together, and a sharded model is not "
                    "called for fewer: choose a smaller --per_device_eval_batch_size."
                ) from error
            if len(batch) == 1:
                raise
        # Here, as Accelerate takes time to import.
        from accelerate.utils.memory import clear_device_cache

        # Outside the except block, as the exception keeps the tensors of the failed call alive.
        logger.warning(f"{len(batch):,} comments do not fit the device's memory together: scoring them in two halves.")
        del inputs
        clear_device_cache()
        return torch.cat([self._score_batch(rows, half) for half in np.split(batch, [len(batch) // 2])])


def scoring_tokens(device: torch.device) -> int:
    """Most tokens of a batch in scoring, if nothing else limits it.

    On a CPU, small batches are faster because they stay in its cache; a GPU needs large ones to be busy.
    """
    return 8_192 if device.type == "cpu" else 65_536


def in_half(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy of a classifier with bf16 or fp16 weights, for scoring: autocast would convert weights for every batch.

    It computes without autocast. The head's `OutputLayer` keeps its fp32 weights, as many logits would be equal in half
    precision.
    """
    converted = copy.deepcopy(model)
    # Accelerate's wrapper around `forward` would still call the original model.
    for name in ("forward", "_original_forward"):
        converted.__dict__.pop(name, None)
    heads = [module for module in converted.modules() if isinstance(module, OutputLayer)]
    kept = {parameter for head in heads for parameter in head.parameters()}
    # Buffers stay as they are: in bf16, the frequencies of rotary positions would be too coarse.
    for parameter in set(converted.parameters()) - kept:
        parameter.data = parameter.data.to(dtype)
    return converted


def why_not_finite(logits: np.ndarray, mixed_precision: str) -> str | None:
    """What to say of logits `(rows, labels)` if some are NaN or infinite, with what helps; None if all are finite."""
    bad = int((~np.isfinite(logits)).any(1).sum())
    if not bad:
        return None
    what = f"the scores of {bad:,} of {len(logits):,} comments are not finite numbers"
    if mixed_precision == "fp16":
        return f"{what}, as in fp16 they may overflow: choose --mixed_precision no, or bf16 on a card that has it."
    return f"{what} in {precision_name(mixed_precision)}: the model's weights are damaged, or overflowed in training."
