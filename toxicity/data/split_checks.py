"""Checks of the rows that were split: that there are any, that they can be trained on, and that they tell quality."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from toxicity.core.console import quoted
from toxicity.core.errors import RequestError
from toxicity.core.schema import TARGET, TOXIC_THRESHOLD, label_column
from toxicity.data.label_columns import FLAG
from toxicity.data.labelled_files import Source

logger = logging.getLogger(__name__)


def require_rows(train: pa.Table, validation: pa.Table, sources: list[Source]) -> None:
    """Raise `RequestError` if a split is empty, or the splits have other labels."""
    first = sources[0].labels.names
    for name, split, source in (("train", train, sources[0]), ("validation", validation, sources[-1])):
        if not len(source.scored_rows()):
            raise RequestError(
                f"{source.name}: nobody scored any of its {len(source.table):,} rows, which leaves the {name} split "
                "empty: give rows that have labels."
            )
        if len(split) == 0:
            raise RequestError(f"{source.name} leaves the {name} split empty: give more rows.")
        if source.labels.names != first:
            raise RequestError(
                f"{sources[0].name} has the labels {', '.join(first)} and {source.name} "
                f"{', '.join(source.labels.names)}: write them alike in both."
            )


def require_trainable(train: pa.Table, source: str, labels: Sequence[str], flag: str) -> None:
    """Raise `RequestError` if a label has no value in the training rows, or the main one is of one class there; tell
    of the others that are.
    """
    for number, (label, valued, toxic) in enumerate(_counts(train, labels)):
        if not valued:
            raise RequestError(
                f"{source}: none of the {len(train):,} training rows has a value of the label "
                f"{quoted(label)}. Leave it out of {FLAG}, or train on rows that have one."
            )
        if toxic not in (0, valued):
            continue
        which = f"all {valued:,} training rows" + (f" with a value of {quoted(label)}" if len(labels) > 1 else "")
        told = f"{source}: {which} are {'toxic' if toxic else 'civil'}"
        if not number:
            raise RequestError(f"{told}; training needs both. Check {flag}, and that the file is not sorted by label.")
        logger.warning(f"{told}: the model learns nothing else of that label, and its metrics are null.")


def require_measurable(validation: pa.Table, source: str, labels: Sequence[str]) -> None:
    """Raise `RequestError` if the main label has no value in the validation rows; of several labels, tell of the others
    that have none, and of all that are of one class there.
    """
    for number, (label, valued, toxic) in enumerate(_counts(validation, labels)):
        none = f"{source}: none of the {len(validation):,} validation rows has a value of the label {quoted(label)}"
        if not valued and not number:
            raise RequestError(f"{none}, by which the model is judged. Validate on rows that have one.")
        if not valued:
            logger.warning(f"{none}: its metrics are null.")
        elif toxic in (0, valued) and len(labels) > 1:
            logger.warning(
                f"{source}: all {valued:,} validation rows with a value of {quoted(label)} are "
                f"{'toxic' if toxic else 'civil'}: its metrics that need both are null."
            )


def _counts(split: pa.Table, labels: Sequence[str]) -> list[tuple[str, int, int]]:
    """The name of each label, the number of rows with a value of it, and how many of these are toxic."""
    columns = [split[label_column(label) if number else TARGET] for number, label in enumerate(labels)]
    toxic = [pc.sum(pc.greater_equal(column, TOXIC_THRESHOLD)).as_py() or 0 for column in columns]
    return list(zip(labels, [len(column) - column.null_count for column in columns], toxic, strict=True))
