"""Samplers and data collator: the order of rows in an epoch, and a batch cut into parts under a token budget."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from toxicity.core.schema import TOXIC_THRESHOLD
from toxicity.core.training_arguments import TrainingArguments
from toxicity.data.token_dataset import FILLER, IGNORED, Rows
from toxicity.models.packing import Layout, fill_batches, longest_first

# Rows are sorted by length within pools of this many batches: large enough that the rows of a batch are about equally
# long, small enough that an epoch stays random.
BATCHES_PER_POOL = 100


class EpochSampler(Sampler[int]):
    """All rows once per epoch, in an order that depends on the seed and the epoch alone.

    Every process draws the same order, and a resumed run finds its place in it. Torch's random state, from which
    dropout draws, is not used. Grouped by length, an epoch is a random sequence of batches whose rows are about equally
    long; unlike with the sampler of `transformers` the batches do not run from long to short.

    With `sparse` rows, passes over the data after the first are shorter: each takes all other rows and a new sample of
    the sparse ones. The Trainer counts steps by `len(sampler)`, so an epoch keeps that length: after the first epoch
    the shorter passes are put end to end, and each epoch is the next `len(sampler)` rows of that sequence.

    Args:
        lengths: tokens of each row.
        batch_size: rows of an optimiser step, over all accumulation steps and processes.
        seed: of the shuffling.
        group_by_length: whether rows of similar length go together; otherwise all orders are equally likely.
        sparse: bool `(rows,)`, the rows of which later passes take only a share.
        later_share: share of the `sparse` rows in each pass after the first.
    """

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray,
        batch_size: int,
        seed: int,
        group_by_length: bool = True,
        sparse: np.ndarray | None = None,
        later_share: float = 1.0,
    ) -> None:
        self.lengths = np.asarray(lengths)
        self.batch_size = batch_size
        self.seed = seed
        self.group_by_length = group_by_length
        self.sparse = np.flatnonzero(np.zeros(len(self.lengths), bool) if sparse is None else sparse)
        self.left_out = len(self.sparse) - round(later_share * len(self.sparse))
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 0, of the next iteration."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        order = self._order_of_epoch()
        for start in range(0, len(order), 1_000):  # a list of all rows would take several times the array's memory
            yield from order[start : start + 1_000].tolist()

    def _order_of_epoch(self) -> np.ndarray:
        rng = np.random.default_rng((self.seed, self.epoch))
        if self.epoch == 0 or not self.left_out:
            order = rng.permutation(len(self.lengths))
        else:
            rows_per_pass = len(self) - self.left_out
            first_pass, skipped = divmod((self.epoch - 1) * len(self), rows_per_pass)
            passes = first_pass + np.arange(math.ceil((skipped + len(self)) / rows_per_pass))
            order = np.concatenate([self._order_of_later_pass(number) for number in passes.tolist()])
            order = order[skipped : skipped + len(self)]
        return self._grouped(order, rng) if self.group_by_length else order

    def _order_of_later_pass(self, number: int) -> np.ndarray:
        rng = np.random.default_rng((self.seed, 0, number))
        order = rng.permutation(len(self.lengths))
        return order[~np.isin(order, rng.choice(self.sparse, self.left_out, replace=False))]

    def _grouped(self, shuffled: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        pool_size = self.batch_size * BATCHES_PER_POOL
        # A short last batch stays last: the loader cuts batches by count, so in the middle it would shift all others.
        whole = len(shuffled) - len(shuffled) % self.batch_size
        pools = [shuffled[start : min(start + pool_size, whole)] for start in range(0, whole, pool_size)]
        batches = [pool[np.argsort(self.lengths[pool], kind="stable")].reshape(-1, self.batch_size) for pool in pools]
        if not batches:
            return shuffled
        return np.concatenate([rng.permutation(np.concatenate(batches)).ravel(), shuffled[whole:]])


class EvenSampler(Sampler[int]):
    """Another sampler's order, padded at its end so that all processes get equally many batches.

    Accelerate deals whole batches to the processes in turn, and would pad by training some rows twice. Here the last
    rows are dealt one by one, and each process's last batch is padded with `FILLER`.

    Args:
        sampler: yields every row once.
        batch_size: rows of a batch of one process.
        processes: number of processes that share the rows.
    """

    def __init__(self, sampler: Sampler[int], batch_size: int, processes: int) -> None:
        self.sampler = sampler
        self.batch_size = batch_size
        self.processes = processes

    def __len__(self) -> int:
        return math.ceil(len(self.sampler) / self._rows_per_turn) * self._rows_per_turn

    def __iter__(self) -> Iterator[int]:
        rows = iter(self.sampler)
        yield from islice(rows, len(self.sampler) // self._rows_per_turn * self._rows_per_turn)
        if last := list(rows):
            dealt = np.full((self.batch_size, self.processes), FILLER)
            dealt.flat[: len(last)] = last
            yield from dealt.T.ravel().tolist()

    @property
    def _rows_per_turn(self) -> int:
        return self.batch_size * self.processes


def set_epoch(loader: DataLoader, epoch: int) -> None:
    """Set the epoch of all samplers inside a loader that Accelerate may have wrapped."""
    sampler = getattr(loader, "batch_sampler", None)
    while sampler is not None:
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(epoch)
        sampler = getattr(sampler, "batch_sampler", None) or getattr(sampler, "sampler", None)


def steps_per_epoch(loader: DataLoader, args: TrainingArguments) -> int:
    """Optimiser steps of an epoch, counted as the Trainer does."""
    return max(1, math.ceil(len(loader) / args.gradient_accumulation_steps))


def steps_with_later_negatives(args: TrainingArguments, labels: np.ndarray) -> int:
    """Optimiser steps of all passes over the data, of which those after the first leave out some civil comments.

    Args:
        args: number of passes (`num_train_epochs`), share of the civil comments in those after the first
            (`later_negatives`), and batch sizes.
        labels: of the training rows, `(rows,)`, 0 to 1.
    """
    civil = int((labels < TOXIC_THRESHOLD).sum())
    left_out = civil - round(args.later_negatives * civil)
    epochs, rows = args.num_train_epochs, len(labels)
    whole, rest = divmod(round(epochs * rows - max(0, epochs - 1) * left_out), rows)
    rows_per_step = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    return whole * math.ceil(rows / rows_per_step) + math.ceil(rest / rows_per_step)


class Collator:
    """Data collator: lays the rows of a batch out for the model, in several parts where they exceed a token budget.

    Args:
        layout: how the model takes the rows of a part, packed or padded.
        max_tokens: largest number of tokens in a part; None to keep all rows together.
    """

    def __init__(self, layout: Layout, max_tokens: int | None = None) -> None:
        self.layout = layout
        self.max_tokens = max_tokens

    def __call__(self, rows: Rows) -> dict[str, Any]:
        """Sort the rows by length, cut them into parts and lay these out.

        Returns:
            `labels`, float32 `(rows, 1)`, of all rows; `parts`, a list of dicts with the arguments of the model and,
            as `labels`, a dict of all targets of those rows, each float32 `(rows, targets)`; `rows` and `tokens`, the
            number of rows and of tokens in them, without rows whose label is `IGNORED`.
        """
        lengths = np.array([len(tokens) for tokens in rows.tokens])
        order = longest_first(lengths)
        targets = {
            name: torch.from_numpy(column[order].reshape(len(order), -1)) for name, column in rows.targets.items()
        }
        parts = [
            self.layout([rows.tokens[row] for row in order[part]])
            | {"labels": {name: column[part] for name, column in targets.items()}}
            for part in fill_batches(lengths[order], self.max_tokens, padded=not self.layout.packed)
        ]
        counted = rows.targets["labels"] != IGNORED
        return {
            "labels": targets["labels"],
            "parts": parts,
            "rows": int(counted.sum()),
            "tokens": int(lengths[counted].sum()),
        }
