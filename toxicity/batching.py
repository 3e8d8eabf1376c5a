"""Batches that cost what their real tokens cost: which rows go together, and how they are laid out in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import Dataset, Sampler

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
    """

    def __init__(
        self, lengths: Sequence[int] | np.ndarray, batch_size: int, seed: int, group_by_length: bool = True
    ) -> None:
        self.lengths = np.asarray(lengths)
        self.batch_size = batch_size
        self.seed = seed
        self.group_by_length = group_by_length
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration gives; the Trainer calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((self.seed, self.epoch))
        order = rng.permutation(len(self.lengths))
        if self.group_by_length:
            order = self._grouped(order, rng)
        for start in range(0, len(order), 1_000):  # Python's own integers take more memory than a whole run's lengths
            yield from order[start : start + 1_000].tolist()

    def _grouped(self, shuffled: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        pool_size = self.batch_size * BATCHES_PER_POOL
        # Whole batches only are moved about: a short last batch must stay last, or it would shift all others.
        whole = len(shuffled) - len(shuffled) % self.batch_size
        pools = [shuffled[start : min(start + pool_size, whole)] for start in range(0, whole, pool_size)]
        batches = [pool[np.argsort(self.lengths[pool], kind="stable")].reshape(-1, self.batch_size) for pool in pools]
        if not batches:
            return shuffled
        return np.concatenate([rng.permutation(np.concatenate(batches)).ravel(), shuffled[whole:]])


def longest_first(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    """Order for scoring: int64 `(rows,)` indices, longest row first, so that too large a batch fails at once."""
    return np.argsort(-np.asarray(lengths).astype(np.int64), kind="stable")


def fill_batches(lengths: np.ndarray, max_tokens: int | None, padded: bool = False) -> list[slice]:
    """Cut rows that are sorted, longest first, into batches of at most `max_tokens` tokens; a row stays whole.

    Args:
        lengths: tokens of each row, none longer than the one before.
        max_tokens: of a batch, None for no limit. A single row may have more.
        padded: whether all rows of a batch take as much room as its longest.
    """
    slices, start, tokens = [], 0, 0
    for row, length in enumerate(lengths.tolist()):
        room = lengths[start] if padded else length
        if max_tokens is not None and row > start and tokens + room > max_tokens:
            slices.append(slice(start, row))
            start, tokens, room = row, 0, length
        tokens += int(room)
    return [*slices, slice(start, len(lengths))] if len(lengths) else []


class TokenRows(Dataset):
    """Tokenised comments where Arrow has them: no copy of the tokens, and the lengths read once.

    Args:
        dataset: with `input_ids` (lists of integers) and `length`, and with `labels` (0 to 1) for training.

    Attributes:
        lengths: tokens of each row, int32 `(rows,)`.
        labels: float32 `(rows,)`, or None.
    """

    def __init__(self, dataset: datasets.Dataset) -> None:
        table = dataset.with_format("arrow")[:]
        self.lengths = table.column("length").to_numpy().astype(np.int32)
        self.labels = table.column("labels").to_numpy().astype(np.float32) if "labels" in table.column_names else None
        chunks = [chunk for chunk in table.column("input_ids").chunks if len(chunk)]
        self._tokens = [chunk.values.to_numpy() for chunk in chunks]
        self._offsets = [chunk.offsets.to_numpy() for chunk in chunks]
        self._chunk_starts = np.cumsum([0, *map(len, chunks)])

    @classmethod
    def from_lists(cls, input_ids: Iterable[Sequence[int]]) -> TokenRows:
        """Rows that were tokenised a moment ago."""
        ids = pa.array(input_ids, pa.list_(pa.int32()))
        table = pa.table({"input_ids": ids, "length": ids.value_lengths()})
        return cls(datasets.Dataset(table))

    def __len__(self) -> int:
        return len(self.lengths)

    def tokens_of(self, rows: Sequence[int] | np.ndarray) -> list[np.ndarray]:
        """Views of the token ids of these rows, one array a row."""
        rows = np.asarray(rows, dtype=np.int64)
        chunks = np.searchsorted(self._chunk_starts, rows, side="right") - 1
        places = rows - self._chunk_starts[chunks]
        return [
            self._tokens[chunk][self._offsets[chunk][place] : self._offsets[chunk][place + 1]]
            for chunk, place in zip(chunks.tolist(), places.tolist(), strict=True)
        ]

    def __getitems__(self, rows: list[int]) -> Rows:
        """What the loader hands to the collator."""
        return Rows(self.tokens_of(rows), None if self.labels is None else self.labels[rows])


@dataclass
class Rows:
    """Token ids of some comments, one array each, and their labels, float32 `(rows,)`."""

    tokens: list[np.ndarray]
    labels: np.ndarray | None


@dataclass
class Group:
    """Comments whose attention is computed together, as if all had `longest` tokens.

    `places` says which of the `rows × longest` positions hold the group's `tokens` tokens, int64 `(tokens,)`, and
    `is_padding` which do not, bool `(rows, longest)`; both are None where every position holds one.
    """

    rows: int
    longest: int
    tokens: int
    places: torch.Tensor | None = None
    is_padding: torch.Tensor | None = None


@dataclass
class Packing:
    """Where each comment is in a batch that lays their tokens one after another, longest comment first.

    `first_tokens`, int64 `(rows,)`, are the places of the comments' first tokens.
    """

    first_tokens: torch.Tensor
    groups: list[Group]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Packing:
        """The same on another device."""

        def move(tensor: torch.Tensor | None) -> torch.Tensor | None:
            return None if tensor is None else tensor.to(device, non_blocking=non_blocking)

        groups = [replace(group, places=move(group.places), is_padding=move(group.is_padding)) for group in self.groups]
        return Packing(move(self.first_tokens), groups)

    def pin_memory(self) -> Packing:
        """The same in memory that a GPU can fetch from by itself."""
        pinned = [
            group
            if group.places is None
            else replace(group, places=group.places.pin_memory(), is_padding=group.is_padding.pin_memory())
            for group in self.groups
        ]
        return Packing(self.first_tokens.pin_memory(), pinned)


@dataclass(frozen=True)
class Layout:
    """How a batch of comments becomes tensors.

    Attributes:
        packed: whether the model takes comments one after another (`toxicity.unpadded`), or a padded rectangle.
        pad_token_id: what fills a rectangle.
        pad_to_multiple_of: round the rectangle's length up to a multiple; tensor cores like 8.
        shorter_by: comments that are shorter than another by up to this share of its length attend in one group
            with it. Few large groups suit a device that waits for each call, many even ones a processor.
    """

    packed: bool
    pad_token_id: int = 0
    pad_to_multiple_of: int = 1
    shorter_by: float = 0.1

    def __call__(self, tokens: list[np.ndarray]) -> dict[str, Any]:
        """What the model is called with.

        Args:
            tokens: ids of the comments, longest first.

        Returns:
            Packed: `input_ids` and `position_ids`, int64 `(1, tokens)`, and `packing`. Padded: `input_ids`, int64
            `(rows, longest)`, and `attention_mask` of that shape, unless all comments are equally long.
        """
        return self._pack(tokens) if self.packed else self._pad(tokens)

    def computed_positions(self, lengths: np.ndarray) -> tuple[int, int]:
        """Positions that the linear layers and that attention computes, padding included, for a batch.

        Args:
            lengths: tokens of the comments of the batch, longest first.
        """
        if not self.packed:
            positions = len(lengths) * self._rounded_up(lengths[0])
            return positions, positions
        return int(lengths.sum()), sum(
            (group.stop - group.start) * int(lengths[group.start]) for group in self._groups(lengths)
        )

    def _pad(self, tokens: list[np.ndarray]) -> dict[str, torch.Tensor]:
        lengths = np.array([len(row) for row in tokens])
        shape = len(tokens), self._rounded_up(lengths[0])
        if (lengths == shape[1]).all():
            return {"input_ids": torch.from_numpy(np.concatenate(tokens, dtype=np.int64).reshape(shape))}
        is_token = np.arange(shape[1]) < lengths[:, None]
        input_ids = np.full(shape, self.pad_token_id, dtype=np.int64)
        input_ids[is_token] = np.concatenate(tokens)
        return {
            "input_ids": torch.from_numpy(input_ids),
            "attention_mask": torch.from_numpy(is_token.astype(np.int64)),
        }

    def _pack(self, tokens: list[np.ndarray]) -> dict[str, Any]:
        lengths = np.array([len(row) for row in tokens])
        first_tokens = np.cumsum(lengths) - lengths
        positions = np.arange(lengths.sum()) - np.repeat(first_tokens, lengths)
        return {
            "input_ids": torch.from_numpy(np.concatenate(tokens, dtype=np.int64)[None]),
            "position_ids": torch.from_numpy(positions[None]),
            "packing": Packing(
                torch.from_numpy(first_tokens), [_group(lengths[part]) for part in self._groups(lengths)]
            ),
        }

    def _groups(self, lengths: np.ndarray) -> list[slice]:
        starts = [0]
        for row, length in enumerate(lengths.tolist()):
            if length < lengths[starts[-1]] * (1 - self.shorter_by):
                starts.append(row)
        return [slice(start, stop) for start, stop in zip(starts, [*starts[1:], len(lengths)], strict=True)]

    def _rounded_up(self, length: int) -> int:
        return -(-int(length) // self.pad_to_multiple_of) * self.pad_to_multiple_of


def _group(lengths: np.ndarray) -> Group:
    rows, longest, tokens = len(lengths), int(lengths[0]), int(lengths.sum())
    if tokens == rows * longest:
        return Group(rows, longest, tokens)
    is_token = np.arange(longest) < lengths[:, None]
    return Group(rows, longest, tokens, torch.from_numpy(np.flatnonzero(is_token)), torch.from_numpy(~is_token))


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
            `labels`, float32 `(rows, 1)`, of all rows; `parts`, dicts of what the model takes and the `labels` of
            those rows; `tokens`, how many real ones there are.
        """
        lengths = np.array([len(tokens) for tokens in rows.tokens])
        order = longest_first(lengths)
        labels = torch.from_numpy(rows.labels[order, None])
        parts = [
            self.layout([rows.tokens[row] for row in order[part]]) | {"labels": labels[part]}
            for part in fill_batches(lengths[order], self.max_tokens, padded=not self.layout.packed)
        ]
        return {"labels": labels, "parts": parts, "tokens": int(lengths.sum())}
