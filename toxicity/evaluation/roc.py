"""How well scores rank toxic above civil rows: ROC AUC with its interval, and average precision.

All of them are worked out from counts of toxic and of civil rows by distinct score. The scores are sorted once; after
that every subset of the rows costs one pass over its counts, and ties are exact whatever the scores are.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

# Below this many rows of either class the normal approximation behind an interval, and the AUC of an identity or a
# subtype, say more of the draw than of the model: one row of ten still moves an AUC by up to 0.1.
MINIMUM_CLASS_ROWS = 10


def score_ranks(scores: np.ndarray) -> np.ndarray:
    """Number the distinct scores.

    Args:
        scores: finite floats `(rows,)`.

    Returns:
        int64 `(rows,)`: 0 for the rows with the lowest score, the same number for equal scores, no number left out.
    """
    return np.unique(scores, return_inverse=True)[1]


def count_by_score(ranks: np.ndarray, toxic: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count the rows at each score.

    Args:
        ranks: of `score_ranks`, `(rows,)`.
        toxic: bool `(rows,)`.

    Returns:
        How many toxic rows and how many civil rows have each score, int64 `(scores,)` each, lowest score first.
    """
    civil, toxic = count_groups_by_score(ranks, toxic.astype(np.int64), 2)
    return toxic, civil


def count_groups_by_score(ranks: np.ndarray, groups: np.ndarray, number: int) -> np.ndarray:
    """Count the rows of each group at each score.

    Args:
        ranks: of `score_ranks`, `(rows,)`.
        groups: int `(rows,)`, from 0 to `number - 1`.
        number: how many groups there are.

    Returns:
        int64 `(number, scores)`, lowest score first.
    """
    scores = int(ranks.max()) + 1 if len(ranks) else 0
    return np.bincount(ranks + scores * groups, minlength=number * scores).reshape(number, scores)


def why_undefined(toxic_rows: int, civil_rows: int, minimum: int = 1) -> str | None:
    """Why there is no AUC for so many rows of each class, in words; None where there is one."""
    if toxic_rows + civil_rows == 0:
        return "there are no rows"
    if minimum == 1 and min(toxic_rows, civil_rows) == 0:
        return f"all {toxic_rows + civil_rows:,} rows are {'toxic' if toxic_rows else 'civil'}"
    for kind, rows in (("toxic", toxic_rows), ("civil", civil_rows)):
        if rows < minimum:
            return f"{rows} {kind} rows, fewer than {minimum}"
    return None


def auc_of_counts(toxic: np.ndarray, civil: np.ndarray) -> float:
    """Area under the ROC curve: how often a toxic row scores above a civil one, a tie counted half.

    That is the Mann-Whitney statistic divided by the number of pairs (Hanley and McNeil 1982, "The meaning and use of
    the area under a ROC curve"). The pairs are counted in integers, so that only the division rounds.

    Args:
        toxic: toxic rows by score, int64 `(scores,)`, lowest score first; at least one row.
        civil: civil rows likewise.
    """
    half_pairs = int((toxic * (2 * np.cumsum(civil) - civil)).sum())
    return half_pairs / (2 * int(toxic.sum()) * int(civil.sum()))


def auc_standard_error(toxic: np.ndarray, civil: np.ndarray) -> float:
    """Standard error of the AUC, without an assumption on how scores are distributed.

    DeLong, DeLong and Clarke-Pearson 1988, "Comparing the areas under two or more correlated receiver operating
    characteristic curves", Biometrics 44: the variance over toxic rows of the share of civil rows below each, and the
    variance over civil rows of the share of toxic rows above each, both divided by their rows, added up. The shares
    come from ranks instead of pairs, as in Sun and Xu 2014, "Fast implementation of DeLong's algorithm", IEEE Signal
    Processing Letters 21.

    Args:
        toxic: toxic rows by score, int64 `(scores,)`, lowest score first; at least two rows.
        civil: civil rows likewise.
    """
    toxic_rows, civil_rows = int(toxic.sum()), int(civil.sum())
    auc = auc_of_counts(toxic, civil)
    civil_below = (np.cumsum(civil) - civil / 2) / civil_rows
    toxic_above = 1.0 - (np.cumsum(toxic) - toxic / 2) / toxic_rows
    of_toxic = (toxic * (civil_below - auc) ** 2).sum() / (toxic_rows - 1)
    of_civil = (civil * (toxic_above - auc) ** 2).sum() / (civil_rows - 1)
    return float(np.sqrt(of_toxic / toxic_rows + of_civil / civil_rows))


def auc_interval(toxic: np.ndarray, civil: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """Confidence interval of the AUC: so many of DeLong's standard errors to both sides, within 0 and 1.

    Args:
        toxic: toxic rows by score, int64 `(scores,)`, lowest score first; at least two rows.
        civil: civil rows likewise.
        confidence: how often such an interval holds the true AUC.
    """
    auc = auc_of_counts(toxic, civil)
    reach = NormalDist().inv_cdf((1 + confidence) / 2) * auc_standard_error(toxic, civil)
    return max(0.0, auc - reach), min(1.0, auc + reach)


def average_precision(toxic: np.ndarray, civil: np.ndarray) -> float:
    """Precision at every score as threshold, weighted by the recall that it adds: scikit-learn's definition.

    The sum over thresholds of `(recall − recall at the next higher threshold) × precision`, with no interpolation
    (https://scikit-learn.org/stable/modules/generated/sklearn.metrics.average_precision_score.html).

    Args:
        toxic: toxic rows by score, int64 `(scores,)`, lowest score first; at least one row.
        civil: civil rows likewise; may be all 0.
    """
    toxic_flagged = np.cumsum(toxic[::-1])
    flagged = np.cumsum((toxic + civil)[::-1])
    return float((toxic[::-1] * (toxic_flagged / flagged)).sum() / toxic_flagged[-1])
