"""The split into training and validation rows, drawn as the published protocol draws it."""

from __future__ import annotations

import logging

import numpy as np
import pyarrow as pa

logger = logging.getLogger(__name__)

# random_state of the published split. It is not the seed of a run, which must not change the rows.
SPLIT_SEED = 1234


def split_sizes(rows: int, max_train: int | None, max_eval: int | None) -> tuple[int, int]:
    """How many of a source's rows to train and to validate on.

    By default all that are not for validation are trained on, and half as many are validated on, as published. If the
    source has too few rows, both numbers are reduced in proportion, and a warning is logged.
    """
    if max_train is None and max_eval is None:
        max_eval = rows // 3
    if max_train is None:
        max_train = max(rows - max_eval, 0)
    if max_eval is None:
        max_eval = max_train // 2
    wanted = max_train + max_eval
    if wanted <= rows:
        return max_train, max_eval
    logger.warning(f"Of {max_train:,} + {max_eval:,} rows asked for there are {rows:,}: both parts shrink alike.")
    train = round(rows * max_train / wanted)
    return train, rows - train


def published_split(
    rows: int, train_rows: int, eval_rows: int, keep_together: pa.ChunkedArray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the rows that pandas' `sample(train_rows + eval_rows, random_state=1234)` draws, in its order.

    With `keep_together`, the texts of all rows, all rows with the same text follow the first of them in the draw, so
    that the splits share no text (and their sizes change a little).

    Returns:
        Two int64 arrays of row numbers, the beginning of the draw for training and the rest for validation.
    """
    picked = np.random.RandomState(SPLIT_SEED).choice(rows, train_rows + eval_rows, replace=False)
    in_train = np.arange(len(picked)) < train_rows
    if keep_together is not None:
        texts = keep_together.take(pa.array(picked)).combine_chunks().dictionary_encode().indices
        _, first, inverse = np.unique(texts.fill_null(-1).to_numpy(), return_index=True, return_inverse=True)
        in_train = in_train[first[inverse]]
    return picked[in_train], picked[~in_train]
