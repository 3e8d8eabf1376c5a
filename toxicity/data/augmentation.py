"""Training comments with typos in the place of some as they were written."""

from __future__ import annotations

import logging

import numpy as np
import pyarrow as pa
from datasets import Dataset
from datasets.fingerprint import generate_random_fingerprint

from toxicity.core.rewriting import rewrite
from toxicity.core.schema import TEXT

logger = logging.getLogger(__name__)

# It is not the seed of a run, so that runs of several seeds share their tokens.
TYPOS_SEED = 1234
ROWS_PER_BATCH = 10_000


def with_typos(comments: Dataset, share: float) -> Dataset:
    """The texts of a dataset, in a column `text`, a share of them from 0 to 1, drawn, with typos at their usual rate.

    A comment that is not drawn, and each that has no word of three letters, is as it was.
    """
    if not share:
        return comments
    drawn = np.random.default_rng(TYPOS_SEED).random(len(comments)) < share
    logger.info(f"With typos: {drawn.sum():,} of {len(comments):,} training comments.")
    chunks, row = [], 0
    for batch in comments.select_columns(TEXT).with_format("arrow").iter(ROWS_PER_BATCH):
        texts = batch[TEXT].to_pylist()
        places = drawn[row : row + len(texts)]
        row += len(texts)
        mistyped = (rewrite(text, "typos", TYPOS_SEED) if at else text for text, at in zip(texts, places, strict=True))
        chunks.append(pa.array(mistyped, pa.large_string()))
    table = pa.table({TEXT: pa.chunked_array(chunks, pa.large_string())})
    return Dataset(table, fingerprint=generate_random_fingerprint())
