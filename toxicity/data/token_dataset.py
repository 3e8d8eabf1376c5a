"""The training dataset: tokenised comments and their targets, read from Arrow without copying the token ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Self

import datasets
import numpy as np
import pyarrow as pa
from torch.utils.data import Dataset

# Label of a row that is not part of the loss. The Trainer does not count it in `num_items_in_batch` either.
IGNORED = -100.0
# Stands for no row in an index batch, so that all ranks have index batches of the same size.
FILLER = -1


@dataclass
class Rows:
    """Token ids of some comments, an array for each, and their targets by name, float32 `(rows,)` or `(rows, n)`.

    `copies` has, by the place of a comment among them, the token ids of its counterfactual copies.
    """

    tokens: list[np.ndarray]
    targets: dict[str, np.ndarray]
    copies: dict[int, list[np.ndarray]] = field(default_factory=dict)


class TokenRows(Dataset):
    """Tokenised comments as a torch dataset that hands out views of the token ids.

    Args:
        comments: a dataset or a table with the columns `input_ids` (lists of integers) and `length`; for training
            also `labels` (0 to 1, lists of several), and `weights` and `auxiliary` if the `Objective` of
            `training.targets` has them.
        originals: if the last comments are copies that are compared with what they are of, the rows of the latter,
            int64 `(copies,)`, -1 for copies that are left out. A copy is no row of the dataset then, and comes with the
            row that it is of.

    Attributes:
        lengths: tokens of each row, int32 `(rows,)`.
        targets: those of `labels`, `weights` and `auxiliary` that the dataset has, float32 `(rows,)`, or
            `(rows, labels)` and `(rows, auxiliary targets)` of several. NaN where nobody said.
    """

    def __init__(self, comments: datasets.Dataset | pa.Table, originals: np.ndarray | None = None) -> None:
        table = comments if isinstance(comments, pa.Table) else comments.with_format("arrow")[:]
        rows, self._copies = table, {}
        if originals is not None:
            rows = table.slice(0, len(table) - len(originals))
            order = np.argsort(originals, kind="stable")
            order = order[originals[order] >= 0]
            of_rows, starts = np.unique(originals[order], return_index=True)
            self._copies = dict(zip(of_rows.tolist(), np.split(len(rows) + order, starts[1:]), strict=True))
        self.lengths = rows.column("length").to_numpy().astype(np.int32)
        targets = (name for name in ("labels", "weights", "auxiliary") if name in table.column_names)
        self.targets = {name: _numbers(rows.column(name)) for name in targets}
        chunks = [chunk for chunk in table.column("input_ids").chunks if len(chunk)]
        self._tokens = [chunk.values.to_numpy() for chunk in chunks]
        self._offsets = [chunk.offsets.to_numpy() for chunk in chunks]
        self._chunk_starts = np.cumsum([0, *map(len, chunks)])

    @classmethod
    def from_lists(cls, input_ids: Iterable[Sequence[int]]) -> Self:
        """Rows without targets, from the token ids of each, without a table: for a few rows that takes less time."""
        rows = cls.__new__(cls)
        tokens = [np.asarray(ids, dtype=np.int32) for ids in input_ids]
        rows.lengths = np.fromiter(map(len, tokens), dtype=np.int32, count=len(tokens))
        rows.targets, rows._copies = {}, {}
        rows._tokens = [np.concatenate([np.empty(0, np.int32), *tokens])]
        rows._offsets = [np.concatenate(([0], np.cumsum(rows.lengths)))]
        rows._chunk_starts = np.array([0, len(tokens)])
        return rows

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def copies(self) -> int:
        """How many copies come with the rows in all."""
        return sum(map(len, self._copies.values()))

    @property
    def labels(self) -> np.ndarray:
        """All labels, float32 `(rows, labels)`, the main one first; NaN where nobody said."""
        return self.targets["labels"].reshape(len(self), -1)

    def tokens_of(self, rows: Sequence[int] | np.ndarray) -> list[np.ndarray]:
        """Views of the token ids of these rows, one array per row."""
        rows = np.asarray(rows, dtype=np.int64)
        chunks = np.searchsorted(self._chunk_starts, rows, side="right") - 1
        places = rows - self._chunk_starts[chunks]
        return [
            self._tokens[chunk][self._offsets[chunk][place] : self._offsets[chunk][place + 1]]
            for chunk, place in zip(chunks.tolist(), places.tolist(), strict=True)
        ]

    def __getitems__(self, rows: list[int]) -> Rows:
        """The rows of an index batch, without `FILLER`: what the data loader passes to the data collator.

        A batch of fillers alone becomes one row with the label `IGNORED`: this rank must still run a forward and a
        backward pass, as the other ranks wait for its gradients.
        """
        rows = [row for row in rows if row != FILLER]
        if rows:
            targets = {name: column[rows] for name, column in self.targets.items()}
            copies = {place: self._copies[row] for place, row in enumerate(rows) if row in self._copies}
            return Rows(self.tokens_of(rows), targets, {place: self.tokens_of(of) for place, of in copies.items()})
        targets = {name: column[:1] for name, column in self.targets.items()}
        return Rows(self.tokens_of([0]), targets | {"labels": np.full_like(targets["labels"], IGNORED)})


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """A column as float32 `(rows,)`, or `(rows, width)` if it holds lists of a fixed width."""
    if not isinstance(column.type, pa.FixedSizeListType):
        return column.to_numpy().astype(np.float32)
    flat = np.concatenate([chunk.flatten().to_numpy() for chunk in column.chunks])
    return flat.astype(np.float32).reshape(len(column), column.type.list_size)
