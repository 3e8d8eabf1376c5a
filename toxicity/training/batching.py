"""Which comments go together: the order of an epoch, batches under a budget of tokens, the parts of a step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler

from toxicity.data.token_dataset import FILLER, IGNORED, Rows
from toxicity.models.packing import Layout, fill_batches, longest_first

# Rows are sorted within pools of this many batches: long enough for even lengths, short enough to stay random.
BATCHES_PER_POOL = 100


class EpochSampler(Sampler[int]):
    """All rows once per epoch in an order that depends on the seed and the epoch alone.

    Every process draws the same order and a resumed run finds its place in it; torch's own random numbers, which
    dropout takes, are left alone. Grouped by length, rows come in random batches of similar length, in random order
    of batches; unlike those of the sampler of `transformers` they do not run from long to short.

    Args:
        lengths: tokens of each row.
        batch_size: rows that will be taken together, the accumulation steps and processes counted in.
        seed: of the shuffling.
        group_by_length: whether rows of like length go together, or every order is as likely as any other.
        sparse: bool `(rows,)`, those of which later passes take a share. An epoch stays as many rows as there are, so
            that those after the first hold more than one such pass, and are cut where they are full.
        later_share: of the `sparse` rows, drawn anew for each pass after the first.
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
        """Choose the epoch whose order the next iteration gives; the Trainer calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        order = self._order_of_epoch()
        for start in range(0, len(order), 1_000):  # Python's own integers take more memory than a whole run's lengths
            yield from order[start : start + 1_000].tolist()

    def _order_of_epoch(self) -> np.ndarray:
        rng = np.random.default_rng((self.seed, self.epoch))
        if self.epoch == 0 or not self.left_out:
            order = rng.permutation(len(self.lengths))
        else:
            of_later_pass = len(self) - self.left_out
            first, start = divmod((self.epoch - 1) * len(self), of_later_pass)
            passes = range(first, first - (-(start + len(self)) // of_later_pass))
            order = np.concatenate([self._order_of_later_pass(number) for number in passes])[start : start + len(self)]
        return self._grouped(order, rng) if self.group_by_length else order

    def _order_of_later_pass(self, number: int) -> np.ndarray:
        rng = np.random.default_rng((self.seed, 0, number))
        order = rng.permutation(len(self.lengths))
        return order[~np.isin(order, rng.choice(self.sparse, self.left_out, replace=False))]

    def _grouped(self, shuffled: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        pool_size = self.batch_size * BATCHES_PER_POOL
        # Whole batches only are moved about: a short last batch must stay last, or it would shift all others.
        whole = len(shuffled) - len(shuffled) % self.batch_size
        pools = [shuffled[start : min(start + pool_size, whole)] for start in range(0, whole, pool_size)]
        batches = [pool[np.argsort(self.lengths[pool], kind="stable")].reshape(-1, self.batch_size) for pool in pools]
        if not batches:
            return shuffled
        return np.concatenate([rng.permutation(np.concatenate(batches)).ravel(), shuffled[whole:]])


class EvenSampler(Sampler[int]):
    """Another sampler's order, filled up at its end so that all processes get equally many batches.

    Accelerate deals whole batches out to the processes in turn, and would fill up by training some rows twice. Here
    the last rows are dealt out one by one, and `FILLER` follows them in each process's batch.

    Args:
        sampler: gives every row once.
        batch_size: rows that a process takes together.
        processes: how many share the rows.
    """

    def __init__(self, sampler: Sampler[int], batch_size: int, processes: int) -> None:
        self.sampler = sampler
        self.batch_size = batch_size
        self.processes = processes

    def __len__(self) -> int:
        return -(-len(self.sampler) // self._rows_of_all) * self._rows_of_all

    def __iter__(self) -> Iterator[int]:
        rows = iter(self.sampler)
        yield from islice(rows, len(self.sampler) // self._rows_of_all * self._rows_of_all)
        if last := list(rows):
            dealt = np.full((self.batch_size, self.processes), FILLER)
            dealt.flat[: len(last)] = last
            yield from dealt.T.ravel().tolist()

    @property
    def _rows_of_all(self) -> int:
        return self.batch_size * self.processes


class Collator:
    """Comments of a training step to what the model is called with, in as many parts as the memory needs.

    Args:
        layout: of each part.
        max_tokens: of a part, None to keep the rows together.
    """

    def __init__(self, layout: Layout, max_tokens: int | None = None) -> None:
        self.layout = layout
        self.max_tokens = max_tokens

    def __call__(self, rows: Rows) -> dict[str, Any]:
        """Sort the rows by length and lay them out.

        Returns:
            `labels`, float32 `(rows, 1)`, of all rows; `parts`, dicts of what the model takes, and as `labels` all
            targets of those rows by name, float32 `(rows, targets)`; `rows` and `tokens`, how many comments there are,
            and tokens in them, those left out whose label is `IGNORED`.
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
