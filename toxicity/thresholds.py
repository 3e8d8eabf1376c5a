"""From which score on to flag a comment, so that a wanted share of the flagged ones is toxic."""

from __future__ import annotations

import numpy as np

from toxicity.roc import count_by_score

# So that one comment moves the precision by at most five points. The few surest rows of a ranking reach any precision
# by luck.
MINIMUM_FLAGGED_ROWS = 20


def choose_threshold(logits: np.ndarray, toxic: np.ndarray, precision_target: float) -> float | None:
    """The lowest threshold that reaches a precision: of all that do, the one with the highest recall.

    Precision does not fall steadily as the threshold falls, so all thresholds are looked at. Rows with equal logits
    are flagged together or not at all.

    Args:
        logits: finite floats `(rows,)`.
        toxic: bool `(rows,)`.
        precision_target: share of the flagged rows that is to be toxic, 0 to 1.

    Returns:
        A logit: rows at or above it are flagged. It lies midway to the next logit below that is not flagged, so that
        rounding elsewhere does not unflag a row. None where no threshold that flags at least `MINIMUM_FLAGGED_ROWS`
        rows reaches the target.
    """
    distinct, ranks = np.unique(np.asarray(logits, dtype=np.float64), return_inverse=True)
    toxic_rows, civil_rows = count_by_score(ranks, toxic)
    toxic_flagged = np.cumsum(toxic_rows[::-1])[::-1]
    flagged = np.cumsum((toxic_rows + civil_rows)[::-1])[::-1]
    reached = np.flatnonzero((toxic_flagged / flagged >= precision_target) & (flagged >= MINIMUM_FLAGGED_ROWS))
    if not len(reached):
        return None
    lowest = float(distinct[reached[0]])
    below = float(distinct[max(reached[0] - 1, 0)])
    midway = below + (lowest - below) / 2
    # Between neighbouring floats there is nothing, and midway is one of the two.
    return midway if midway > below else lowest


def precision_and_recall(logits: np.ndarray, toxic: np.ndarray, threshold: float) -> dict[str, float | None]:
    """What flagging the rows at or above a threshold comes to.

    Args:
        logits: floats `(rows,)`.
        toxic: bool `(rows,)`, at least one True.
        threshold: a logit.

    Returns:
        `precision`, the share of flagged rows that is toxic, None where none is flagged; `recall`, the share of toxic
        rows that is flagged; `flagged`, the share of all rows that is flagged.
    """
    # In float32, NumPy would round the threshold to the logits' type before it compares.
    flagged = np.asarray(logits, dtype=np.float64) >= threshold
    hits = int((flagged & toxic).sum())
    rows = int(flagged.sum())
    return {
        "precision": hits / rows if rows else None,
        "recall": hits / int(toxic.sum()),
        "flagged": rows / len(flagged),
    }
