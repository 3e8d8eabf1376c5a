"""Turn comments into batches: which rows share a batch, and their tensors, packed (concatenated) or padded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch


@dataclass
class Group:
    """Comments of a packed batch whose attention is computed together, padded to the longest of them."""

    rows: int
    longest: int  # tokens of the longest comment
    tokens: int  # tokens of all comments
    # Both None if all comments are equally long:
    places: torch.Tensor | None = None  # of the tokens in the padded rectangle of rows × longest, int64 `(tokens,)`
    is_padding: torch.Tensor | None = None  # bool `(rows, longest)`


@dataclass
class Packing:
    """Where each comment lies in a packed batch, in which the comments are concatenated, longest first."""

    first_tokens: torch.Tensor  # position of each comment's first token, int64 `(rows,)`
    groups: list[Group]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Packing:
        """A copy on another device."""
        return self._copied(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Packing:
        """A copy in pinned memory, from which copies to a GPU are asynchronous."""
        return self._copied(torch.Tensor.pin_memory)

    def _copied(self, copy: Callable[[torch.Tensor], torch.Tensor]) -> Packing:
        def copied(group: Group) -> Group:
            if group.places is None:
                return group
            return replace(group, places=copy(group.places), is_padding=copy(group.is_padding))

        return Packing(copy(self.first_tokens), [copied(group) for group in self.groups])


@dataclass(frozen=True)
class Layout:
    """How a batch of comments becomes tensors."""

    packed: bool  # whether the model takes packed batches (see `padding_free`), or padded ones
    pad_token_id: int = 0
    pad_to_multiple_of: int = 1  # the length of padded batches is rounded up to a multiple of this
    # Whether the attention of all comments of a packed batch is computed together, padded to the longest: faster on a
    # GPU, where each kernel launch costs time. Otherwise only that of equally long comments is, and nothing is padded.
    one_group: bool = False

    def __call__(self, tokens: list[np.ndarray]) -> dict[str, Any]:
        """The keyword arguments of the model for a batch.

        Args:
            tokens: token ids of each comment, longest comment first.

        Returns:
            For a packed batch `input_ids` and `position_ids`, int64 `(1, tokens)`, and `packing`. For a padded one
            `input_ids`, int64 `(rows, longest)`, and `attention_mask` of that shape, unless all comments are equally
            long.
        """
        lengths = np.array([len(row) for row in tokens])
        input_ids = np.concatenate(tokens, dtype=np.int64)
        return self._pack(input_ids, lengths) if self.packed else self._pad(input_ids, lengths)

    def computed_positions(self, lengths: np.ndarray) -> tuple[int, int]:
        """Number of positions that the linear layers and that attention compute for a batch, including padding.

        `lengths` are the numbers of tokens of the comments, longest first.
        """
        if not self.packed:
            positions = len(lengths) * self._rounded_up(lengths[0])
            return positions, positions
        return int(lengths.sum()), sum(len(group) * int(group[0]) for group in self._groups(lengths))

    def _pad(self, input_ids: np.ndarray, lengths: np.ndarray) -> dict[str, torch.Tensor]:
        shape = len(lengths), self._rounded_up(lengths[0])
        if (lengths == shape[1]).all():
            return {"input_ids": torch.from_numpy(input_ids.reshape(shape))}
        is_token = np.arange(shape[1]) < lengths[:, None]
        padded = np.full(shape, self.pad_token_id, dtype=np.int64)
        padded[is_token] = input_ids
        return {"input_ids": torch.from_numpy(padded), "attention_mask": torch.from_numpy(is_token.astype(np.int64))}

    def _pack(self, input_ids: np.ndarray, lengths: np.ndarray) -> dict[str, Any]:
        first_tokens = np.cumsum(lengths) - lengths
        positions = np.arange(lengths.sum()) - np.repeat(first_tokens, lengths)
        return {
            "input_ids": torch.from_numpy(input_ids[None]),
            "position_ids": torch.from_numpy(positions[None]),
            "packing": Packing(torch.from_numpy(first_tokens), [_group(group) for group in self._groups(lengths)]),
        }

    def _groups(self, lengths: np.ndarray) -> list[np.ndarray]:
        changes = [] if self.one_group else (np.flatnonzero(np.diff(lengths)) + 1).tolist()
        return [lengths[start:stop] for start, stop in pairwise([0, *changes, len(lengths)])]

    def _rounded_up(self, length: int) -> int:
        return -(-int(length) // self.pad_to_multiple_of) * self.pad_to_multiple_of


def _group(lengths: np.ndarray) -> Group:
    rows, longest, tokens = len(lengths), int(lengths[0]), int(lengths.sum())
    if tokens == rows * longest:
        return Group(rows, longest, tokens)
    is_token = np.arange(longest) < lengths[:, None]
    return Group(rows, longest, tokens, torch.from_numpy(np.flatnonzero(is_token)), torch.from_numpy(~is_token))


def longest_first(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    """Row indices by decreasing length, int64 `(rows,)`: with the longest first, a lack of memory shows at once."""
    return np.argsort(-np.asarray(lengths).astype(np.int64), kind="stable")


def fill_batches(lengths: np.ndarray, max_tokens: int | None, padded: bool = False) -> list[slice]:
    """Split rows with these numbers of tokens, longest first, into batches of at most `max_tokens` tokens if not None.

    A row that is longer by itself gets a batch of its own. If `padded`, every row counts as many tokens as the longest
    of its batch.
    """
    slices, start, tokens = [], 0, 0
    for row, length in enumerate(lengths.tolist()):
        cost = lengths[start] if padded else length
        if max_tokens is not None and row > start and tokens + cost > max_tokens:
            slices.append(slice(start, row))
            start, tokens, cost = row, 0, length
        tokens += int(cost)
    return [*slices, slice(start, len(lengths))] if len(lengths) else []
