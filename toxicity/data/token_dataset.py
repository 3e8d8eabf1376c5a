"""Tokenised comments where Arrow has them, and how the loader takes them from there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import datasets
import numpy as np
import pyarrow as pa
from torch.utils.data import Dataset

# Label of a row that has no part in the loss; the Trainer leaves it out of `num_items_in_batch`, too.
IGNORED = -100.0


# In place of a row's number: no row, only so that all processes have equally many to ask for.
FILLER = -1
TARGETS = ("labels", "weights", "auxiliary")


@dataclass
class Rows:
    """Token ids of some comments, one array each, and their targets by name, float32 `(rows,)` or `(rows, targets)`."""

    tokens: list[np.ndarray]
    targets: dict[str, np.ndarray]


class TokenRows(Dataset):
    """Tokenised comments where Arrow has them: no copy of the tokens, and the lengths read once.

    Args:
        dataset: with `input_ids` (lists of integers) and `length`, for training also with `labels` (0 to 1), and with
            the `weights` and `auxiliary` targets of `objective.Objective`.

    Attributes:
        lengths: tokens of each row, int32 `(rows,)`.
        targets: those of the last three columns that there are, float32 `(rows,)` and `(rows, auxiliary targets)`.
    """

    def __init__(self, dataset: datasets.Dataset) -> None:
        self._take(dataset.with_format("arrow")[:])

    def _take(self, table: pa.Table) -> None:
        self.lengths = table.column("length").to_numpy().astype(np.int32)
        self.targets = {name: _numbers(table.column(name)) for name in TARGETS if name in table.column_names}
        chunks = [chunk for chunk in table.column("input_ids").chunks if len(chunk)]
        self._tokens = [chunk.values.to_numpy() for chunk in chunks]
        self._offsets = [chunk.offsets.to_numpy() for chunk in chunks]
        self._chunk_starts = np.cumsum([0, *map(len, chunks)])

    @classmethod
    def from_table(cls, table: pa.Table) -> TokenRows:
        """Rows of a table with the columns that a dataset would have."""
        rows = cls.__new__(cls)
        rows._take(table)
        return rows

    @classmethod
    def from_lists(cls, input_ids: Iterable[Sequence[int]]) -> TokenRows:
        """Rows that were tokenised a moment ago."""
        ids = pa.array(input_ids, pa.list_(pa.int32()))
        return cls.from_table(pa.table({"input_ids": ids, "length": ids.value_lengths()}))

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
        """What the loader hands to the collator: these rows without `FILLER`.

        If there are none but those, it is a row whose label is `IGNORED`: the model must be called all the same,
        as other processes wait for this one's gradients.
        """
        real = [row for row in rows if row != FILLER]
        if not real:
            labels = np.array([IGNORED], dtype=np.float32)
            return Rows(
                self.tokens_of([0]), {name: column[:1] for name, column in self.targets.items()} | {"labels": labels}
            )
        return Rows(self.tokens_of(real), {name: column[real] for name, column in self.targets.items()})


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """float32 `(rows,)`, or `(rows, width)` of lists that are all as long."""
    if not isinstance(column.type, pa.FixedSizeListType):
        return column.to_numpy().astype(np.float32)
    flat = np.concatenate([chunk.flatten().to_numpy() for chunk in column.chunks])
    return flat.astype(np.float32).reshape(len(column), column.type.list_size)
