"""Turn comments into batches: which rows share a batch, and their tensors, packed (concatenated) or padded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from transformers import PreTrainedConfig

# Of the pairs of positions that attention computes for groups of similar length, at most this share is padding.
MOST_PADDING = 0.25

# Most sizes that padded lengths are rounded up to between a power of two and the next: at most an eighth is padding.
SIZES_PER_OCTAVE = 8

# In these models positions begin at `pad_token_id + 1`, so the first of their `max_position_embeddings` are never used.
POSITIONS_AFTER_PADDING = (
    "camembert",
    "data2vec-text",
    "ibert",
    "longformer",
    "luke",
    "mpnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
)


@dataclass
class Group:
    """Comments of a packed batch whose attention is computed together; each takes `longest` places in the batch."""

    rows: int
    longest: int
    # What is added to the scores of attention, 0 for a token and -inf for padding, `(rows, 1, 1, longest)` in the type
    # that attention computes in; None where no comment is shorter.
    mask: torch.Tensor | None = None


@dataclass
class Packing:
    """Where each comment lies in a packed batch, in which the comments follow one another, longest first."""

    first_tokens: torch.Tensor  # position of each comment's first token, int64 `(rows,)`
    groups: list[Group]  # empty where attention has variable lengths:
    boundaries: torch.Tensor | None = None  # where comments begin, and where the last one ends, int32 `(rows + 1,)`
    longest: int = 0  # places of the longest comment

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Packing:
        """A copy on another device."""
        return self._copied(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Packing:
        """A copy in pinned memory, from which copies to a GPU are asynchronous."""
        return self._copied(torch.Tensor.pin_memory)

    def _copied(self, copy: Callable[[torch.Tensor], torch.Tensor]) -> Packing:
        groups = [group if group.mask is None else replace(group, mask=copy(group.mask)) for group in self.groups]
        boundaries = None if self.boundaries is None else copy(self.boundaries)
        return replace(self, first_tokens=copy(self.first_tokens), groups=groups, boundaries=boundaries)


@dataclass(frozen=True)
class Layout:
    """How a batch of comments becomes tensors."""

    packed: bool  # whether the model takes packed batches (see `padding_free`), or padded ones
    pad_token_id: int = 0
    pad_to_multiple_of: int = 1  # padded lengths, of batches and of groups of similar length, are multiples of this
    # Whose attention in a packed batch is computed together. `equal`: comments of equal length, without any padding;
    # `similar`: of similar length, padded to the longest of their group, with fewer kernels, of which each costs a GPU
    # time to launch; `none`: each comment on its own, by a kernel that takes variable lengths.
    grouping: Literal["equal", "similar", "none"] = "equal"
    first_position: int = 0  # position id of a comment's first token
    dtype: torch.dtype = torch.float32  # that attention computes in
    # For a runtime that compiles kernels for each shape of a batch: padded lengths are rounded up to few sizes (see
    # `few_sizes`), up to this most that a comment has tokens. None leaves them as they are.
    few_sizes_up_to: int | None = None

    def __call__(self, tokens: list[np.ndarray]) -> dict[str, Any]:
        """The keyword arguments of the model for a batch.

        Args:
            tokens: token ids of each comment, longest comment first.

        Returns:
            For a packed batch `input_ids` and `position_ids`, int64 `(1, places)`, and `packing`. For a padded one
            `input_ids`, int64 `(rows, longest)`, and `attention_mask` of that shape, unless all comments are equally
            long.
        """
        lengths = np.array([len(row) for row in tokens])
        input_ids = np.concatenate(tokens, dtype=np.int64)
        return self._pack(input_ids, lengths) if self.packed else self._pad(input_ids, lengths)

    def padded_lengths(self, lengths: np.ndarray) -> np.ndarray:
        """What comments of these lengths count in a padded batch, in the type of `lengths`."""
        return lengths if self.few_sizes_up_to is None else few_sizes(lengths, self.few_sizes_up_to)

    def computed_positions(self, lengths: np.ndarray) -> int:
        """Number of positions that the linear layers compute for a batch, including padding.

        `lengths` are the numbers of tokens of the comments, longest first.
        """
        return int(self._places(lengths).sum())

    def computed_pairs(self, lengths: np.ndarray) -> int:
        """Number of pairs of positions that attention computes for a batch, including padding.

        `lengths` are the numbers of tokens of the comments, longest first; `(lengths**2).sum()` of the pairs are real.
        """
        return int((self._places(lengths) ** 2).sum())

    def _pad(self, input_ids: np.ndarray, lengths: np.ndarray) -> dict[str, torch.Tensor]:
        shape = len(lengths), self._rounded_up(lengths[0])
        if (lengths == shape[1]).all():
            return {"input_ids": torch.from_numpy(input_ids.reshape(shape))}
        is_token = np.arange(shape[1]) < lengths[:, None]
        padded = np.full(shape, self.pad_token_id, dtype=np.int64)
        padded[is_token] = input_ids
        return {"input_ids": torch.from_numpy(padded), "attention_mask": torch.from_numpy(is_token.astype(np.int64))}

    def _pack(self, input_ids: np.ndarray, lengths: np.ndarray) -> dict[str, Any]:
        places = self._places(lengths)
        first_tokens = np.cumsum(places) - places
        positions = np.arange(places.sum()) - np.repeat(first_tokens, places)
        if (places > lengths).any():
            is_token = positions < np.repeat(lengths, places)
            padded = np.full(len(positions), self.pad_token_id, dtype=np.int64)
            padded[is_token] = input_ids
            # Rounded up, a length may be more than the model has positions.
            input_ids, positions = padded, np.where(is_token, positions, 0)
        packing = Packing(torch.from_numpy(first_tokens), [], longest=int(places[0]))
        if self.grouping == "none":
            packing.boundaries = torch.from_numpy(np.append(first_tokens, places.sum()).astype(np.int32))
        else:
            starts = np.flatnonzero(np.diff(places, prepend=-1)).tolist()
            packing.groups = [
                self._group(lengths[start:stop], int(places[start])) for start, stop in pairwise([*starts, len(places)])
            ]
        return {
            "input_ids": torch.from_numpy(input_ids[None]),
            "position_ids": torch.from_numpy(positions[None] + self.first_position),
            "packing": packing,
        }

    def _group(self, lengths: np.ndarray, longest: int) -> Group:
        if (lengths == longest).all():
            return Group(len(lengths), longest)
        is_padding = torch.from_numpy(np.arange(longest) >= lengths[:, None])
        # In the type of the scores and for a multiple of 8 places, a kernel takes it as it is in every layer.
        mask = torch.zeros(is_padding.shape, dtype=self.dtype).masked_fill_(is_padding, float("-inf"))
        return Group(len(lengths), longest, mask[:, None, None])

    def _places(self, lengths: np.ndarray) -> np.ndarray:
        """How many places each comment takes in a batch, padding included."""
        if not self.packed:
            return np.full(len(lengths), self._rounded_up(lengths[0]))
        if self.grouping != "similar":
            return lengths
        return similar_lengths(lengths, self.pad_to_multiple_of)

    def _rounded_up(self, length: int) -> int:
        length = self.padded_lengths(np.array(length))
        return -(-int(length) // self.pad_to_multiple_of) * self.pad_to_multiple_of


def few_sizes(lengths: np.ndarray, most: int) -> np.ndarray:
    """Lengths rounded up to one of `SIZES_PER_OCTAVE` sizes between a power of two and the next, or to `most`.

    Up to 512 these are 56 sizes. Short comments are hardly padded, whereas multiples of 16 tripled those of 6 tokens.
    """
    exponents = np.frexp(np.maximum(lengths, 1))[1] - 1  # a comment without tokens is a row of padding
    steps = np.maximum(1, 2**exponents // SIZES_PER_OCTAVE)
    return np.minimum(-(-lengths // steps) * steps, most).astype(lengths.dtype)


def similar_lengths(lengths: np.ndarray, multiple: int = 1) -> np.ndarray:
    """The padded length of each comment: that of the longest of its group, rounded up to a multiple.

    The groups are as few as keep padding at `MOST_PADDING` of the pairs of positions, or as many as there are rounded
    lengths where rounding alone is more than that. Among equally many groups, those with the fewest places in all are
    taken, as most of the arithmetic is done for each place.

    Args:
        lengths: numbers of tokens, longest first.

    Returns:
        int64 of the same shape.
    """
    lengths = lengths.astype(np.int64)
    rounded = -(-lengths // multiple) * multiple
    most = max((lengths**2).sum() / (1 - MOST_PADDING), (rounded**2).sum())
    starts = np.append(np.flatnonzero(np.diff(rounded, prepend=-1)), len(rounded))
    # Places of a group that takes the rounded lengths from one (row of the table) to before another (column).
    rows = starts - starts[:-1, None]
    places = np.where(rows > 0, rows * rounded[starts[:-1], None], np.inf)
    # Fewest places of everything before a length, in one group, then in two and so on; and where the last group begins.
    fewest, begins = places[0], []
    while True:
        padded, stop = rounded.copy(), len(starts) - 1
        for begin in [*reversed(begins), np.zeros(len(starts), np.int64)]:
            padded[starts[begin[stop]] : starts[stop]] = rounded[starts[begin[stop]]]
            stop = begin[stop]
        if (padded**2).sum() <= most:
            return padded
        tried = fewest[:-1, None] + places
        fewest = tried.min(0)
        begins.append(tried.argmin(0))


def first_position(config: PreTrainedConfig) -> int:
    """The position id of a comment's first token."""
    return config.pad_token_id + 1 if config.model_type in POSITIONS_AFTER_PADDING else 0


def longest_first(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    """Row indices by decreasing length, int64 `(rows,)`: with the longest first, a lack of memory shows at once."""
    return np.argsort(-np.asarray(lengths).astype(np.int64), kind="stable")


def fill_batches(
    lengths: np.ndarray,
    max_tokens: int | None,
    padded: bool = False,
    counts: np.ndarray | None = None,
    max_padding: int | None = None,
) -> list[slice]:
    """Split rows with these numbers of tokens, longest first, into batches of at most `max_tokens` tokens if not None.

    A row that is longer by itself gets a batch of its own. If `padded`, every row counts as many tokens as the longest
    of its batch, and where the shorter rows of one would have more than `max_padding` tokens of padding, the next one
    begins. With `counts`, a row stands for so many of its length, which stay together.
    """
    slices, start, tokens, padding = [], 0, 0, 0
    counts = np.ones(len(lengths), np.int64) if counts is None else counts
    for row, (length, count) in enumerate(zip(lengths.tolist(), counts.tolist(), strict=True)):
        cost = count * (lengths[start] if padded else length)
        padding += cost - count * length
        too_many = max_tokens is not None and tokens + cost > max_tokens
        if row > start and (too_many or (max_padding is not None and padding > max_padding)):
            slices.append(slice(start, row))
            start, tokens, padding, cost = row, 0, 0, count * length
        tokens += int(cost)
    return [*slices, slice(start, len(lengths))] if len(lengths) else []
