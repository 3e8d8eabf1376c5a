"""The comments that an export is measured on, and others that int8 is calibrated on."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from toxicity.core.arguments import DataArguments
from toxicity.core.errors import RequestError
from toxicity.core.schema import TARGET, TEXT, hard_labels, label_column
from toxicity.data.sources import labels_of, load_splits, read_file
from toxicity.data.storage import without_credentials

# The rows of recipes/sample.yaml.
SAMPLE = DataArguments(dataset_name="sample", max_train_samples=4000, max_eval_samples=2000)
# Comments that int8 is calibrated on, a third for the ranges and the others to check the layers; at least so many.
CALIBRATING, FEWEST_CALIBRATING = 900, 20

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Comments:
    """Comments to measure on, `texts`, and others to calibrate on.

    `labels` are those of toxicity, float32 `(rows,)`, 0 or 1 and NaN where nobody said; `other_labels` likewise by the
    names that they have in the data.
    """

    name: str
    texts: list[str]
    labels: np.ndarray
    calibrating: list[str]
    calibrated_on: str  # what the others are
    other_labels: dict[str, np.ndarray] = field(default_factory=dict)


def read_comments(labelled: DataArguments, model: str, calibrate: bool) -> Comments:
    """Read labelled comments: those of a file, or the training and validation rows of a dataset.

    Args:
        labelled: a file, of which up to a half of the rows, at most `CALIBRATING`, are drawn to calibrate on; else a
            dataset, of which the training rows calibrate, and the validation rows measure.
        model: the model that they are for, whose run may have been trained on others.
        calibrate: whether comments to calibrate on are needed.

    Raises:
        RequestError: if they cannot be read, are not whole, or are too few.
    """
    if labelled.train_file is None:
        if calibrate and (other := _trained_on(Path(model))) not in (None, labelled.dataset_name):
            logger.warning(
                f"int8 is calibrated on comments of the {labelled.dataset_name}, as {model} does not tell where those "
                f"of {other} are, which it was trained on: name them as --input."
            )
        splits = load_splits(labelled)
        texts, name = splits.validation[TEXT][:], labelled.dataset_name
        others = splits.train[TEXT][: 2 * CALIBRATING]
        return Comments(name, texts, labels_of(splits.validation), _apart(others, texts), f"training rows of {name}")
    source = read_file(labelled.train_file, labelled, "--input")
    if source.bad_rows:
        raise RequestError(f"{source.first_bad_row()}. An export is measured on rows that are whole.")
    rows, name = source.scored_rows(), without_credentials(labelled.train_file)
    count = min(CALIBRATING, len(rows) // 2) if calibrate else 0
    if calibrate and count < FEWEST_CALIBRATING:
        raise RequestError(
            f"{name} has {len(rows):,} comments. int8 is calibrated on some and measured on others: give "
            f"{2 * FEWEST_CALIBRATING} or more, better {2 * CALIBRATING:,}."
        )
    # Drawn, as files are often sorted.
    order = np.random.default_rng(0).permutation(rows)
    prefix = label_column("")
    others = [column for column in source.table.column_names if column.startswith(prefix)]
    table = source.table.select([TEXT, TARGET, *others])
    measured = table.take(pa.array(np.sort(order[count:])))
    texts = measured[TEXT].to_pylist()
    calibrating = _apart(table[TEXT].take(pa.array(order[:count])).to_pylist(), texts)
    if calibrate and len(calibrating) < FEWEST_CALIBRATING:
        raise RequestError(f"{name} has too few different comments to calibrate int8 on some and measure it on others.")
    labels, *other_labels = (_labels(measured[column]) for column in (TARGET, *others))
    of_others = dict(zip((column.removeprefix(prefix) for column in others), other_labels, strict=True))
    return Comments(name, texts, labels, calibrating, f"other rows of {name}", of_others)


def _labels(shares: pa.ChunkedArray) -> np.ndarray:
    values = shares.to_numpy()
    return np.where(np.isnan(values), np.float32(np.nan), hard_labels(values))


def _apart(others: list[str], measured: list[str]) -> list[str]:
    """Different comments to calibrate on, at most `CALIBRATING`, without those that are measured."""
    known = set(measured)
    return [text for text in dict.fromkeys(others) if text not in known][:CALIBRATING]


def _trained_on(folder: Path) -> str | None:
    """The data that a run was trained on; None if the folder does not tell."""
    try:
        return json.loads((folder / "report" / "benchmark.json").read_text(encoding="utf-8"))["protocol"]["dataset"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
