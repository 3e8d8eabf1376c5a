"""The split into training and validation rows, drawn as the published protocol draws it."""

import logging

import numpy as np
import pyarrow as pa

logger = logging.getLogger(__name__)

# random_state of the published split. It is not the seed of a run, which must not change the rows.
SPLIT_SEED = 1234


def split_sizes(rows: int, max_train: int | None, max_eval: int | None) -> tuple[int, int]:
    """How many rows to train and to validate on.

    Args:
        rows: number of rows in the source.
        max_train: rows to train on; by default all that are not for validation.
        max_eval: rows to validate on; by default half as many as are trained on, as published.

    Returns:
        Both numbers. If the source has too few rows, both are reduced in proportion, and a warning is logged.
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

    Args:
        rows: number of rows to draw from.
        train_rows: how many rows at the beginning of the draw are for training.
        eval_rows: how many of the rest are for validation.
        keep_together: texts of all rows. All rows with the same text then follow the first of them in the draw, so
            that the splits share no text (and their sizes change a little).

    Returns:
        Two int64 arrays of row numbers, for training and for validation.
    """
    picked = np.random.RandomState(SPLIT_SEED).choice(rows, train_rows + eval_rows, replace=False)
    in_train = np.arange(len(picked)) < train_rows
    if keep_together is not None:
        texts = keep_together.take(pa.array(picked)).combine_chunks().dictionary_encode().indices
        _, first, inverse = np.unique(texts.fill_null(-1).to_numpy(), return_index=True, return_inverse=True)
        in_train = in_train[first[inverse]]
    return picked[in_train], picked[~in_train]
