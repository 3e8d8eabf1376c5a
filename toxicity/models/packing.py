"""How a batch of comments lies in memory: one after another, or in a padded rectangle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch


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
        packed: whether the model takes comments one after another (`models.padding_free`), or a padded
            rectangle.
        pad_token_id: what fills a rectangle.
        pad_to_multiple_of: round the rectangle's length up to a multiple; tensor cores like 8.
        one_group: whether all comments of a packed batch attend together, padded to the longest, which suits a device
            that waits for each call; otherwise only those of one length do, and nothing is padded.
    """

    packed: bool
    pad_token_id: int = 0
    pad_to_multiple_of: int = 1
    one_group: bool = False

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
        if not self.one_group:
            starts += (np.flatnonzero(np.diff(lengths)) + 1).tolist()
        return [slice(start, stop) for start, stop in zip(starts, [*starts[1:], len(lengths)], strict=True)]

    def _rounded_up(self, length: int) -> int:
        return -(-int(length) // self.pad_to_multiple_of) * self.pad_to_multiple_of


def _group(lengths: np.ndarray) -> Group:
    rows, longest, tokens = len(lengths), int(lengths[0]), int(lengths.sum())
    if tokens == rows * longest:
        return Group(rows, longest, tokens)
    is_token = np.arange(longest) < lengths[:, None]
    return Group(rows, longest, tokens, torch.from_numpy(np.flatnonzero(is_token)), torch.from_numpy(~is_token))


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
