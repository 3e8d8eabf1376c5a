"""Training comments with typos in the place of some as they were written."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from datasets import Dataset
from datasets.fingerprint import generate_random_fingerprint

from toxicity.core.rewriting import rewrite
from toxicity.core.schema import TEXT
from toxicity.data.memory_map import ROWS_PER_COPY, mapped_from_disk

logger = logging.getLogger(__name__)

# It is not the seed of a run, so that runs of several seeds share their tokens.
TYPOS_SEED = 1234


def with_typos(comments: Dataset, share: float) -> Dataset:
    """The texts of a dataset, memory-mapped, a share of them from 0 to 1, drawn, with typos at their usual rate.

    A comment that is not drawn, and each that has no word of three letters, is as it was.
    """
    if not share:
        return comments
    drawn = np.random.default_rng(TYPOS_SEED).random(len(comments)) < share
    logger.info(f"With typos: {drawn.sum():,} of {len(comments):,} training comments.")

    def blocks() -> Iterator[pa.Table]:
        row = 0
        for batch in comments.select_columns(TEXT).with_format("arrow").iter(ROWS_PER_COPY):
            texts = batch[TEXT].to_pylist()
            places = drawn[row : row + len(texts)]
            row += len(texts)
            mistyped = (
                rewrite(text, "typos", TYPOS_SEED) if at else text for text, at in zip(texts, places, strict=True)
            )
            yield pa.table({TEXT: pa.array(mistyped, pa.large_string())})

    return Dataset(pa.concat_tables(mapped_from_disk(blocks())), fingerprint=generate_random_fingerprint())
