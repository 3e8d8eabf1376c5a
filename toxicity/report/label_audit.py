"""The findings of an audit of labels: which are likely wrong, and which comments are nearly the same."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from toxicity.core.console import quoted
from toxicity.core.errors import RequestError
from toxicity.core.markdown import Table, code_cell
from toxicity.core.schema import ID, TEXT, hard_labels
from toxicity.data.near_duplicates import groups_of_texts
from toxicity.data.sources import Splits, label_targets_of
from toxicity.evaluation.label_errors import label_quality

# Of each class: with fewer, the mean score of a class says little.
FEWEST_COMMENTS = 10
# This share of the labels is listed at least, so that a reader can go on where confident learning stops.
LISTED_SHARE = 0.05
MOST_NEIGHBOURS = 3
SHOWN_ROWS, SHOWN_WIDTH = 10, 80

logger = logging.getLogger(__name__)


class Comments(NamedTuple):
    """Training rows, then validation rows, with the columns of `data.sources.Splits`.

    `split` is `train` or `validation` for each row; `labels` are int8 `(rows, labels)`, 1 for toxic, 0 for civil, -1
    where nobody said; `groups` int64 `(rows,)`, the same number for comments that are nearly the same.
    """

    source: str
    rows: pa.Table
    split: np.ndarray
    names: Sequence[str]
    labels: np.ndarray
    groups: np.ndarray


def comments_of(splits: Splits) -> Comments:
    """Both splits together."""
    parts = splits.train, splits.validation
    rows = pa.concat_tables([part.with_format("arrow")[:] for part in parts])
    targets = np.concatenate([label_targets_of(part, splits.labels) for part in parts])
    labels = np.where(np.isnan(targets), -1, hard_labels(targets)).astype(np.int8)
    split = np.repeat(["train", "validation"], [len(part) for part in parts])
    return Comments(splits.source, rows, split, splits.labels, labels, groups_of_texts(rows[TEXT]))


def require_enough(comments: Comments, judged: np.ndarray) -> list[int]:
    """The places of the labels that can be audited; tells of the others.

    Args:
        judged: rows that get a score, bool `(rows,)`.

    Raises:
        RequestError: if it is not so for the main label.
    """
    enough = []
    for place, name in enumerate(comments.names):
        labels = comments.labels[:, place]
        counts = [len(np.unique(comments.groups[judged & (labels == label)])) for label in (0, 1)]
        if min(counts) >= FEWEST_COMMENTS:
            enough.append(place)
            continue
        told = (
            f"{comments.source}: of the comments to judge, {counts[1]:,} different ones are toxic and {counts[0]:,} "
            f"civil by the label {quoted(name)}; an audit needs {FEWEST_COMMENTS} of each"
        )
        if not place:
            raise RequestError(f"{told}. Give more comments.")
        logger.warning(f"{told}: that label is left out.")
    return enough


def audit_labels(comments: Comments, places: Sequence[int], scores: np.ndarray) -> tuple[pa.Table, dict[str, Any]]:
    """Judge each label on its own.

    Args:
        places: of the labels to audit.
        scores: float64 `(rows, labels)`, NaN where no model judged a row without having seen it.

    Returns:
        The suspect labels, those that a nearly same comment contradicts, and in any case a share of `LISTED_SHARE` of
        all, as a table with the worst quality first; and the figures.
    """
    listed, figures = [], {}
    for place in places:
        table, figures[comments.names[place]] = _audit(comments, place, scores[:, place])
        listed.append(table)
    table = pa.concat_tables(listed)
    order = np.argsort(table["label_quality"].to_numpy(), kind="stable")
    judged = int((~np.isnan(scores)).any(axis=1).sum())
    found = {"rows": len(comments.rows), "judged_rows": judged, "labels": figures}
    return table.take(order), found | {"near_duplicates": near_duplicates(comments)}


def near_duplicates(comments: Comments) -> dict[str, int]:
    """How many rows of each split are nearly the same as an earlier one of it, how many validation rows are nearly
    the same as a training row, and how many of these as one with another main label.
    """
    groups, trained = comments.groups, comments.split == "train"
    validated, main = ~trained, comments.labels[:, 0]
    contradicted = validated & (_counts(groups, main, trained)[1] > 0)
    return {
        "train": int(trained.sum()) - len(np.unique(groups[trained])),
        "validation": int(validated.sum()) - len(np.unique(groups[validated])),
        "validation_in_train": int(np.isin(groups[validated], groups[trained]).sum()),
        "of_another_label": int(contradicted.sum()),
    }


def worst_table(table: pa.Table) -> Table:
    """The first rows for people, with comments on one line and shortened."""
    rows = table.slice(0, SHOWN_ROWS).to_pylist()
    several = len({*table["label_name"].to_pylist()}) > 1
    header = [*(["Of"] if several else []), "Label", "Score", "Quality", "Nearly same, other label", "Id", "Comment"]
    shown = [
        [
            *([code_cell(row["label_name"])] if several else []),
            *("toxic" if row["label"] else "civil", f"{row['score']:.4f}", f"{row['label_quality']:.4f}"),
            *(str(row["neighbours"]), code_cell("missing" if row[ID] is None else str(row[ID]), 20)),
            code_cell(row[TEXT], SHOWN_WIDTH),
        ]
        for row in rows
    ]
    return Table(header, shown)


def _audit(comments: Comments, place: int, scores: np.ndarray) -> tuple[pa.Table, dict[str, int]]:
    labels = comments.labels[:, place]
    judged = np.flatnonzero((labels >= 0) & ~np.isnan(scores))
    quality, suspect = label_quality(labels[judged], scores[judged])
    same, others = _counts(comments.groups, labels, labels >= 0)
    contradicted = others[judged] > 0
    # Of nearly the same comments, those are suspect that are the fewer.
    wanted = suspect | (contradicted & (others[judged] >= same[judged]))
    worst_first = np.argsort(quality, kind="stable")
    wanted[worst_first[: math.ceil(LISTED_SHARE * len(judged))]] = True
    chosen = worst_first[wanted[worst_first]]
    rows = judged[chosen]
    neighbours = _neighbours(comments.groups, labels, rows[others[rows] > 0])
    ids, texts = comments.rows[ID], comments.rows[TEXT]
    near = [neighbours.get(row, ()) for row in rows.tolist()]
    table = pa.table(
        {
            "label_name": pa.array([comments.names[place]] * len(rows), pa.string()),
            ID: ids.take(rows),
            "split": comments.split[rows],
            TEXT: texts.take(rows),
            "label": labels[rows],
            "score": scores[rows],
            "label_quality": quality[chosen],
            "suspect": suspect[chosen].astype(np.int8),
            "neighbours": others[rows],
            "neighbour_ids": [", ".join(f"{comments.split[row]} {ids[row]}" for row in found) for found in near],
            "neighbour_text": pa.array(
                [texts[found[0]].as_py() if len(found) else None for found in near], pa.string()
            ),
        }
    )
    counts = {"rows": len(judged), "toxic": labels[judged], "suspect": suspect, "contradicted": contradicted}
    return table, {name: int(np.sum(value)) for name, value in counts.items()} | {"listed": len(rows)}


def _counts(groups: np.ndarray, labels: np.ndarray, counted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each row, how many `counted` rows of its group have the label that it has, and how many the other one; both
    are 0 where nobody said.
    """
    civil, toxic = (
        np.bincount(groups[counted & (labels == label)], minlength=groups.max() + 1)[groups] for label in (0, 1)
    )
    cases = labels == 0, labels == 1
    return np.select(cases, (civil, toxic)), np.select(cases, (toxic, civil))


def _neighbours(groups: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> dict[int, np.ndarray]:
    """For each of these `rows`, the first rows of its group with the other label."""
    order = np.argsort(groups, kind="stable")
    begins, ends = (np.searchsorted(groups, groups[rows], side, sorter=order) for side in ("left", "right"))
    found = {}
    for row, begin, end in zip(rows.tolist(), begins, ends, strict=True):
        members = order[begin:end]
        found[row] = members[labels[members] == 1 - labels[row]][:MOST_NEIGHBOURS]
    return found
