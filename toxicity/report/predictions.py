"""Read the scores that a run gave its validation rows."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from toxicity.core.console import quoted
from toxicity.core.errors import RequestError
from toxicity.core.run_folder import RunFolder

# Share of the rows whose labels may have been mended since.
MOST_CHANGED = 0.2

logger = logging.getLogger(__name__)


class Predictions(NamedTuple):
    """Of each validation row, in the order of the data: its id, and its labels (int8, -1 where nobody said) and scores
    (float64), both `(rows, labels)`.
    """

    ids: pa.ChunkedArray
    labels: np.ndarray
    scores: np.ndarray


def read_predictions(run: RunFolder, labels: Sequence[str]) -> Predictions:
    """`report/predictions.parquet` of a run; `labels` are the names of those to read, the main one first.

    Raises:
        RequestError: if the file or a label is not there, or scores are no numbers.
    """
    path = run.report / "predictions.parquet"
    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise RequestError(f"cannot read {path}: name the folder of a finished run.") from error
    endings = ["", *(f"_{name}" for name in labels[1:])]
    for name, ending in zip(labels, endings, strict=True):
        if f"score{ending}" not in table.column_names:
            raise RequestError(f"{run} did not learn the label {quoted(name)}: name its own labels.")
    scores = np.stack([table[f"score{ending}"].to_numpy() for ending in endings], axis=1)
    if not np.isfinite(scores).all():
        raise RequestError(f"the scores of {run} are no numbers: train with a lower --learning_rate.")
    classes = [pc.fill_null(table[f"label{ending}"], -1).to_numpy() for ending in endings]
    return Predictions(table["id"], np.stack(classes, axis=1), scores)


def require_same_rows(run: RunFolder, found: Predictions, ids: pa.ChunkedArray, labels: np.ndarray) -> None:
    """Check that predictions are of these rows, in this order; tell of labels that have changed since.

    Rows without ids are numbered, so that those of another file may have the same ids; they have other labels.

    Args:
        ids: of the rows.
        labels: as in `Predictions`.

    Raises:
        RequestError: if they are of others.
    """
    changed = int((labels != found.labels).any(axis=1).sum()) if len(labels) == len(found.labels) else len(labels)
    same_ids = ids.cast(pa.large_string()).equals(found.ids.cast(pa.large_string()))
    if not same_ids or changed > MOST_CHANGED * len(labels):
        raise RequestError(
            f"{run} was validated on other rows than these {len(ids):,}: give the same files and flags of the data "
            "as in its training."
        )
    if changed:
        logger.warning(f"Labels of {changed:,} rows are not those that {run} was validated on.")
