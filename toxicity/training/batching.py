"""Samplers and data collator: the order of rows in an epoch, and a batch cut into parts under a token budget."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from toxicity.core.schema import TOXIC_THRESHOLD
from toxicity.core.training_arguments import TrainingArguments
from toxicity.data.token_dataset import FILLER, IGNORED, Rows
from toxicity.models.packing import Layout, fill_batches, longest_first
from toxicity.training.shares import shares_of

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
        group_by_length: whether rows of similar length go together; otherwise all orders are equally likely.
        sparse: bool `(rows,)`, rows of which each pass after the first takes only `later_share`, 0 to 1.
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
        pools = np.split(shuffled[:whole], range(pool_size, whole, pool_size))
        by_length = np.concatenate([pool[np.argsort(self.lengths[pool], kind="stable")] for pool in pools])
        batches = rng.permutation(by_length.reshape(-1, self.batch_size))
        return np.concatenate([batches.ravel(), shuffled[whole:]])


class EvenSampler(Sampler[int]):
    """Another sampler's rows, dealt so that all processes get equally many batches, and about equally many tokens.

    Accelerate deals whole batches of `batch_size` rows to the processes in turn. Those of one turn stay together, so a
    step trains on the rows that it would train on without this, and its gradient is the mean over the same rows. They
    are sorted by length and dealt one by one, to the processes forwards and backwards in turn: without that all would
    wait for the one with the longest comments. At the end Accelerate would train some rows twice; here each process's
    last batch is filled up with `FILLER`, or is left out if `drop_last`.

    Args:
        lengths: tokens of each row.
        batch_size: rows of a batch of one process.
    """

    def __init__(
        self, sampler: Sampler[int], lengths: np.ndarray, batch_size: int, processes: int, drop_last: bool = False
    ) -> None:
        self.sampler = sampler
        self.lengths = lengths
        self.batch_size = batch_size
        self.processes = processes
        self.drop_last = drop_last
        self.rows_per_turn = batch_size * processes

    def __len__(self) -> int:
        whole, rest = divmod(len(self.sampler), self.rows_per_turn)
        return (whole + (rest > 0 and not self.drop_last)) * self.rows_per_turn

    def __iter__(self) -> Iterator[int]:
        rows = iter(self.sampler)
        for _ in range(len(self) // self.rows_per_turn):
            yield from self._dealt(np.fromiter(islice(rows, self.rows_per_turn), np.int64))

    def _dealt(self, rows: np.ndarray) -> list[int]:
        hands = deal(rows[longest_first(self.lengths[rows])], self.processes)
        return [row for hand in hands for row in [*hand.tolist(), *[FILLER] * (self.batch_size - len(hand))]]


def deal(rows: np.ndarray, hands: int) -> list[np.ndarray]:
    """Rows, longest first, dealt one by one, forwards and backwards in turn: about equally many tokens for each."""
    turn = np.arange(len(rows)) % (2 * hands)
    hand_of_row = np.minimum(turn, 2 * hands - 1 - turn)
    return [rows[hand_of_row == hand] for hand in range(hands)]


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
    """Optimiser steps of all passes; those after the first take only the share `later_negatives` of civil comments.

    Args:
        labels: of the training rows, `(rows,)`, 0 to 1.
    """
    civil = int((labels < TOXIC_THRESHOLD).sum())
    left_out = civil - round(args.later_negatives * civil)
    epochs, rows = args.num_train_epochs, len(labels)
    whole, rest = divmod(round(epochs * rows - max(0, epochs - 1) * left_out), rows)
    rows_per_step = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    return whole * math.ceil(rows / rows_per_step) + math.ceil(rest / rows_per_step)


class Batch(dict[str, Any]):
    """What the data collator returns. Accelerate asks it for `to`, before it looks for tensors in it.

    Accelerate has an option `non_blocking`, which is not asked: after a resume it is forgotten (`skip_first_batches`),
    and on Apple's GPUs it would be wrong.
    """

    def to(self, device: torch.device | str | int, non_blocking: bool = False) -> Batch:
        """A copy on another device; to a CUDA device never blocking, which pinned memory is needed for, else always.

        Tensors, and what else has a method `to`, are copied in dicts and lists at any depth; the rest is handed on.
        """
        # As of torch 2.13, MPS would read the memory of tensors that are gone by then (pytorch issue 189690).
        non_blocking = torch.device(device).type == "cuda"

        def moved(value: Any) -> Any:
            if isinstance(value, dict):
                return type(value)({name: moved(part) for name, part in value.items()})
            if isinstance(value, list):
                return [moved(part) for part in value]
            return value.to(device, non_blocking=non_blocking) if hasattr(value, "to") else value

        return moved(self)


@dataclass
class Collator:
    """Data collator: lays the rows of a batch out for the model, in several parts where they exceed a token budget."""

    layout: Layout  # of the rows of a part, packed or padded
    max_tokens: int | None = None  # in a part; None to keep all rows together
    threads: int = 1  # that compute a part in shares, side by side; 1 for parts without shares

    def __call__(self, rows: Rows) -> Batch:
        """Sort the rows by length, cut them into parts and lay these out.

        Returns:
            `labels`, float32 `(rows, 1)`, the main ones of all rows; `parts`, a list of dicts with the arguments of the
            model and, as `labels`, a dict of all targets of those rows, each float32 `(rows, targets)`, or with a list
            of such dicts as `shares`; where comments have their copies beside them, which are `IGNORED` rows of the
            part, with `pairs` among the targets, the places of both in it, int64 `(pairs, 2)`; `rows` and `tokens`,
            how many there are, without the row of an index batch of fillers, copies being tokens of what they are of;
            to cut the batch again, `source`, the rows as they came, and `max_tokens`, the budget of its parts.
        """
        # A comment and its copies stay together.
        each = [[len(ids), *map(len, rows.copies.get(place, ()))] for place, ids in enumerate(rows.tokens)]
        tokens = np.array([sum(lengths) for lengths in each])
        lengths, counts = tokens, None
        if not self.layout.packed:
            # Each of them takes as much room as the longest of a part.
            lengths, counts = np.array([max(lengths) for lengths in each]), np.array([len(lengths) for lengths in each])
        order = longest_first(lengths)
        targets = {key: torch.from_numpy(column[order].reshape(len(order), -1)) for key, column in rows.targets.items()}

        def laid_out(part: np.ndarray) -> dict[str, Any]:
            labels = {key: column[part] for key, column in targets.items()}
            ids = [rows.tokens[row] for row in order[part]]
            if rows.copies:
                ids, labels = _with_copies(ids, labels, [rows.copies.get(row, []) for row in order[part].tolist()])
            return self.layout(ids) | {"labels": labels}

        parts = []
        counts = None if counts is None else counts[order]
        for cut in fill_batches(lengths[order], self.max_tokens, not self.layout.packed, counts):
            part = np.arange(len(order))[cut]
            shares = min(len(part), shares_of(int(tokens[order[part]].sum()), self.threads))
            in_shares = [laid_out(share) for share in deal(part, shares)]
            parts.append({"shares": in_shares} if shares > 1 else in_shares[0])
        counted = rows.targets["labels"].reshape(len(order), -1)[:, 0] != IGNORED
        again = {"source": rows, "max_tokens": self.max_tokens}
        # The Trainer counts the rows of a step by these.
        told = {"rows": int(counted.sum()), "tokens": int(tokens[counted].sum())}
        return Batch({"labels": targets["labels"][:, :1], "parts": parts} | told | again)


def _with_copies(
    tokens: list[np.ndarray], targets: dict[str, torch.Tensor], copies: Sequence[list[np.ndarray]]
) -> tuple[list[np.ndarray], dict[str, torch.Tensor]]:
    """Rows of a part with the copies of some of them, longest first, and their targets with `pairs`.

    Args:
        copies: token ids of the copies of each row.
    """
    original_of = np.repeat(np.arange(len(tokens)), [len(of_row) for of_row in copies])
    tokens = [*tokens, *(copy for of_row in copies for copy in of_row)]
    order = longest_first([len(row) for row in tokens])
    place_of = np.argsort(order)
    targets = {
        key: column[np.concatenate([np.arange(len(copies)), original_of])[order]] for key, column in targets.items()
    }
    places = place_of[len(copies) :]
    targets["labels"][places] = IGNORED
    pairs = np.stack([place_of[original_of], places], axis=1).astype(np.int64)
    return [tokens[row] for row in order], targets | {"pairs": torch.from_numpy(pairs)}
