"""Batches of comments of similar length, so that little of a batch is padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler

# Rows are sorted within pools of this many batches: long enough for even lengths, short enough to stay random.
BATCHES_PER_POOL = 50


class LengthGroupedSampler(Sampler[int]):
    """All rows once per epoch in random batches of similar length, in random order of batches.

    The order depends on the seed and the epoch alone, so every process draws the same one and a resumed run
    finds its place in it. Unlike the sampler of `transformers` the batches do not run from long to short.

    Args:
        lengths: tokens of each row.
        batch_size: rows that will be taken together, the accumulation steps and processes counted in.
        seed: of the shuffling.
    """

    def __init__(self, lengths: Sequence[int] | np.ndarray, batch_size: int, seed: int) -> None:
        self.lengths = np.asarray(lengths)
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration gives; the Trainer calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((self.seed, self.epoch))
        shuffled = rng.permutation(len(self.lengths))
        pool_size = self.batch_size * BATCHES_PER_POOL
        # Whole batches only are moved about: a short last batch must stay last, or it would shift all others.
        whole = len(shuffled) - len(shuffled) % self.batch_size
        pools = [shuffled[start : min(start + pool_size, whole)] for start in range(0, whole, pool_size)]
        batches = [pool[np.argsort(self.lengths[pool], kind="stable")].reshape(-1, self.batch_size) for pool in pools]
        for batch in rng.permutation(np.concatenate(batches)) if batches else []:
            yield from batch.tolist()
        yield from shuffled[whole:].tolist()


def longest_first(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    """Order for scoring: int64 `(rows,)` indices, longest row first, so that too large a batch fails at once."""
    return np.argsort(-np.asarray(lengths), kind="stable")


class PaddingCollator:
    """Pad a list of tokenised comments to the longest of them.

    Args:
        pad_token_id: what fills `input_ids`.
        pad_to_multiple_of: round the padded length up to a multiple; tensor cores like 8.
    """

    def __init__(self, pad_token_id: int, pad_to_multiple_of: int = 1) -> None:
        self.pad_token_id = pad_token_id
        self.pad_to_multiple_of = pad_to_multiple_of

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Collate rows with `input_ids` (ints) and `labels` (a float).

        Returns:
            `input_ids` and `attention_mask`, int64 `(rows, tokens)`, and `labels`, float32 `(rows, 1)`.
        """
        longest = max(len(row["input_ids"]) for row in rows)
        padded_length = -(-longest // self.pad_to_multiple_of) * self.pad_to_multiple_of
        input_ids = np.full((len(rows), padded_length), self.pad_token_id, dtype=np.int64)
        attention_mask = np.zeros_like(input_ids)
        for index, row in enumerate(rows):
            length = len(row["input_ids"])
            input_ids[index, :length] = row["input_ids"]
            attention_mask[index, :length] = 1
        labels = np.array([[row["labels"]] for row in rows], dtype=np.float32)
        return {
            "input_ids": torch.from_numpy(input_ids),
            "attention_mask": torch.from_numpy(attention_mask),
            "labels": torch.from_numpy(labels),
        }
