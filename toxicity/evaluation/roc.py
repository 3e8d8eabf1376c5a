"""How well scores rank toxic above civil rows: ROC AUC with a confidence interval, and average precision.

All of them are computed from the number of toxic and of civil rows at each distinct score, the arguments `toxic` and
`civil`: int64 `(scores,)`, lowest score first. The scores are sorted once; each subset of the rows then needs only one
pass over its counts, and ties are handled exactly.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

# With fewer rows of either class, a confidence interval (a normal approximation) and the AUC of an identity depend more
# on the sample than on the model: one row of ten still changes an AUC by up to 0.1.
MINIMUM_CLASS_ROWS = 10


def score_ranks(scores: np.ndarray) -> np.ndarray:
    """Ranks of finite scores, int64 `(rows,)`: 0 for the lowest score, and 1 more for each distinct higher one."""
    return np.unique(scores, return_inverse=True)[1]


def count_by_score(ranks: np.ndarray, groups: np.ndarray, number: int = 2) -> np.ndarray:
    """Count the rows of each group at each score, int64 `(number, scores)`, lowest score first.

    Args:
        ranks: the result of `score_ranks`, `(rows,)`.
        groups: `(rows,)`, int from 0 to `number - 1`, or bool for two groups: with `~toxic` the first is the toxic one.
        number: number of groups.
    """
    scores = int(ranks.max()) + 1 if len(ranks) else 0
    return np.bincount(ranks + scores * groups, minlength=number * scores).reshape(number, scores)


def why_unusable(logits: np.ndarray) -> str | None:
    """The reason, in words, why nothing can be computed from logits; None if there are some and all are finite."""
    infinite = int((~np.isfinite(logits)).sum())
    if infinite:
        return f"{infinite:,} of {len(logits):,} logits are not finite"
    return None if len(logits) else "there are no rows"


def why_undefined(toxic: np.ndarray | int, civil: np.ndarray | int, minimum: int = 1) -> str | None:
    """The reason, in words, why an AUC is undefined for these numbers of rows; None if it is defined."""
    toxic_rows, civil_rows = int(np.sum(toxic)), int(np.sum(civil))
    if toxic_rows + civil_rows == 0:
        return "there are no rows"
    if minimum == 1 and min(toxic_rows, civil_rows) == 0:
        return f"all {toxic_rows + civil_rows:,} rows are {'toxic' if toxic_rows else 'civil'}"
    for kind, rows in (("toxic", toxic_rows), ("civil", civil_rows)):
        if rows < minimum:
            return f"{rows} {kind} rows, fewer than {minimum}"
    return None


def auc_of_counts(toxic: np.ndarray, civil: np.ndarray) -> float:
    """Area under the ROC curve: the share of pairs in which the toxic row scores above the civil one; ties count half.

    This is the Mann-Whitney statistic divided by the number of pairs (Hanley and McNeil 1982, "The meaning and use of
    the area under a ROC curve"). The pairs are counted in integers, so only the division rounds. Both classes need at
    least one row.
    """
    half_pairs = int((toxic * twice_below(civil)).sum())
    return half_pairs / (2 * int(toxic.sum()) * int(civil.sum()))


def twice_below(counts: np.ndarray) -> np.ndarray:
    """Twice the number of rows below each score, those at that score counted half, int64 `(scores,)`."""
    return 2 * np.cumsum(counts) - counts


def delong_standard_error(toxic: np.ndarray, civil: np.ndarray) -> float:
    """Standard error of the AUC by DeLong's method, which assumes nothing about the distribution of scores.

    DeLong, DeLong and Clarke-Pearson 1988, "Comparing the areas under two or more correlated receiver operating
    characteristic curves", Biometrics 44: the squared error is the variance, over toxic rows, of the share of civil
    rows below each, divided by the number of toxic rows, plus the same with toxic and civil rows exchanged. The shares
    come from ranks instead of pairs, as in Sun and Xu 2014, "Fast implementation of DeLong's algorithm", IEEE Signal
    Processing Letters 21. Both classes need at least two rows.
    """
    toxic_rows, civil_rows = int(toxic.sum()), int(civil.sum())
    auc = auc_of_counts(toxic, civil)
    civil_below = (np.cumsum(civil) - civil / 2) / civil_rows
    toxic_above = 1.0 - (np.cumsum(toxic) - toxic / 2) / toxic_rows
    of_toxic = (toxic * (civil_below - auc) ** 2).sum() / (toxic_rows - 1)
    of_civil = (civil * (toxic_above - auc) ** 2).sum() / (civil_rows - 1)
    return float(np.sqrt(of_toxic / toxic_rows + of_civil / civil_rows))


def auc_interval(toxic: np.ndarray, civil: np.ndarray) -> tuple[float, float]:
    """95 % interval of the AUC: symmetric by DeLong's standard error and the normal distribution, cut to 0 to 1."""
    auc = auc_of_counts(toxic, civil)
    margin = NormalDist().inv_cdf(0.975) * delong_standard_error(toxic, civil)
    return max(0.0, auc - margin), min(1.0, auc + margin)


def average_precision(toxic: np.ndarray, civil: np.ndarray) -> float:
    """Mean precision over all thresholds, weighted by the increase in recall: scikit-learn's definition.

    The sum over thresholds of `(recall − recall at the next higher threshold) × precision`, with no interpolation
    (https://scikit-learn.org/stable/modules/generated/sklearn.metrics.average_precision_score.html). It needs at least
    one toxic row.
    """
    toxic_flagged = np.cumsum(toxic[::-1])
    flagged = np.cumsum((toxic + civil)[::-1])
    return float((toxic[::-1] * (toxic_flagged / flagged)).sum() / toxic_flagged[-1])
