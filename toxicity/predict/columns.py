"""Names of the columns of scores, and which label of a model a column of another file is."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pyarrow as pa

from toxicity.core.label_names import synonyms_of
from toxicity.core.schema import ID

SCORE, LABEL, WORDS = "score", "label", "words"


def names_of_columns(
    others: Sequence[str], labelled: Collection[str], explained: bool = False, beside: Collection[str] = ()
) -> list[str]:
    """Names of the columns of an output: `id`, `score`, `label`, then the score and the label of each other label.

    The last one is `words`, where scores are explained.

    Where a name is taken, in upper or lower case, `_` is appended until it is free. Scores come before labels, so that
    the score of `threat_label` keeps its name, and the label of `threat` gives way.

    Args:
        others: names of the labels beside the main one; they are the names of the columns of their scores.
        labelled: those of them that have a column `NAME_label` as well.
        explained: whether there is the column `words`.
        beside: names of other columns, which the scores are put beside.
    """
    taken = {ID, *map(str.casefold, beside)}

    def free(name: str) -> str:
        while name.casefold() in taken:
            name += "_"
        taken.add(name.casefold())
        return name

    main = [ID, free(SCORE), free(LABEL)]
    scores = {name: free(name) for name in others}
    labels = {name: free(f"{name}_label") for name in others if name in labelled}
    pairs = ((scores[name], labels.get(name)) for name in others)
    names = [*main, *(name for pair in pairs for name in pair if name is not None)]
    return [*names, free(WORDS)] if explained else names


def columns_of_scores(scores: np.ndarray, thresholds: Sequence[float | None]) -> list[pa.Array]:
    """The columns that `names_of_columns` names, from the score of the main label to the label of the last other one.

    Args:
        scores: float64 `(rows, labels)`, the main one first; NaN in rows that have none, which are null in all columns.
        thresholds: of each label, from which score on it is there; None for one that has no column for that.

    Returns:
        float64 for the scores, and int8, 0 or 1, for the labels.
    """
    columns = []
    for column, threshold in zip(np.ascontiguousarray(scores.T), thresholds, strict=True):
        missing = np.isnan(column)
        columns.append(pa.array(column, mask=missing))
        if threshold is not None:
            columns.append(pa.array((column >= threshold).astype(np.int8), mask=missing))
    return columns


def label_called(column: str, labels: Sequence[str]) -> int | None:
    """The number of the label that has a column's name, in upper or lower case, or in the other competition.

    None if there is none; of several, the one of exactly that name.
    """
    name = column.strip().casefold()
    folded = [label.strip().casefold() for label in labels]
    for candidate, known in ((column, labels), *((candidate, folded) for candidate in (name, *synonyms_of(name)))):
        if candidate in known:
            return list(known).index(candidate)
    return None
