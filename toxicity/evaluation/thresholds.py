"""Thresholds with a guarantee: what is wanted of one holds on comments like those judged, with 90 % confidence.

Nobody may call the best of many thresholds by the precision that made it the best. So thresholds are tested, by exact
binomial tests and along sequences that are fixed before a label is seen, as in Learn then Test (Angelopoulos et al.
2021, arXiv 2110.01052). All scores must be of rows that the model was not trained on. Logits are finite floats
`(rows,)`, labels `toxic` bool `(rows,)` with a row of each class.
"""

from __future__ import annotations

from math import ceil, log, log2
from typing import NamedTuple

import numpy as np
from scipy.special import bdtr, betaincinv, expit, logit

from toxicity.core.wanted import FLAGGED, PRECISION, RECALL, Wanted
from toxicity.evaluation.roc import MINIMUM_CLASS_ROWS

CONFIDENCE = 0.9
ERROR = 1 - CONFIDENCE

# Numbers of flagged rows at which precision is tested: each 5 % above the one before.
STEP = 1.05
# The part of the error that the first of these tests is given. The tests at twice, four times, … as many rows are given
# the same part of what is left each time, 0.24, 0.096, …, all together no more than the error: where the highest scores
# are wrong by chance, the sequence starts anew further down.
FIRST_PART = 0.6

# The most comments, as a multiple of those there are, that are said to be enough.
MOST_TIMES = 1000


class Chosen(NamedTuple):
    """A threshold, a logit from which on rows are flagged, or None with the reason."""

    threshold: float | None
    reason: str | None = None


def choose_threshold(logits: np.ndarray, toxic: np.ndarray, wanted: Wanted, shift: float = 0.0) -> Chosen:
    """The threshold that is certified for what is wanted: the lowest, or for a recall the highest.

    Rows with equal logits are flagged together or not at all. A threshold lies midway between the lowest flagged and
    the highest other logit, so that small rounding differences do not change which rows are flagged.

    Args:
        logits, toxic: as everywhere in this module.
        wanted: what to certify.
        shift: log odds of the share of toxic comments where the threshold is to be used, minus those of the rows
            judged. Within a class, scores are taken to be distributed alike in both.

    Returns:
        The threshold; None with a reason that says how many comments would be needed, where these are too few.
    """
    order = np.argsort(-np.asarray(logits, dtype=np.float64), kind="stable")
    descending, toxic = np.asarray(logits, dtype=np.float64)[order], toxic[order]
    # The numbers of rows that a threshold can flag: up to the last of equal ones.
    counts = np.flatnonzero(np.r_[descending[1:] != descending[:-1], True]) + 1
    hits = np.cumsum(toxic)[counts - 1]
    find = {PRECISION: _for_precision, RECALL: _for_recall, FLAGGED: _for_flagged}[wanted.kind]
    found = find(counts, hits, wanted.value, shift)
    if isinstance(found, str):
        return Chosen(None, found)
    flagged = counts[found]
    above = float(descending[flagged - 1])
    below = float(descending[flagged]) if flagged < len(descending) else above
    midway = below + (above - below) / 2
    # Between adjacent floats there is no other number, and midway rounds to one of the two.
    return Chosen(midway if midway > below else above)


def _for_precision(counts: np.ndarray, hits: np.ndarray, target: float, shift: float) -> int | str:
    """Place in `counts` of the largest number of rows that can be flagged at that precision, or why there is none."""
    # Where toxic comments are as frequent as among the rows judged, the precision that gives the one wanted elsewhere.
    # Their share there is known from the same rows. That errs on the safe side: the binomial test allows for the chance
    # in how many of the rows are toxic, and a precision adjusted for their number does not have it.
    target = float(np.clip(expit(logit(target) - shift), np.finfo(float).tiny, np.nextafter(1.0, 0.0)))
    if (found := _certified(counts, hits, target)) is not None:
        return found
    rows = int(counts[-1])
    # A precision of even fewer comments says nothing of that of more of them.
    some = counts >= min(MINIMUM_CLASS_ROWS, rows)
    for times in np.geomspace(STEP, MOST_TIMES, 100):
        # As many comments more, with the same scores.
        if _certified(np.floor(counts[some] * times), np.floor(hits[some] * times), target) is not None:
            return _too_few(rows * times, rows)
    return f"no threshold has this precision, as far as {rows:,} comments can tell"


def _certified(counts: np.ndarray, hits: np.ndarray, target: float) -> int | None:
    """Test the numbers of rows from the first on; returns the place of the largest that passes, None if none does.

    Each start has its part of the error, which goes on from a test that is passed to the next one, and is lost with a
    test that is not (the fallback procedure, Wiens 2003, "A fixed sequence Bonferroni procedure …"). So the probability
    that one of the passed numbers has a lower precision than the target is at most `ERROR`, whatever the scores: which
    numbers are tested, in which order and with which parts of the error depends on the scores and the target alone,
    not on labels. Given the scores, labels are independent, and a binomial test holds for unequal probabilities, too,
    from a mean of 1 on (Hoeffding 1956).
    """
    first = least_flagged(target)
    if counts[-1] < first:
        return None
    numbers = first * STEP ** np.arange(ceil(log(counts[-1] / first, STEP)))
    starts = 2 ** np.arange(1 + int(log2(counts[-1] / first)))
    parts = np.zeros(len(numbers) + 1)
    np.add.at(parts, np.searchsorted(numbers, first * starts), FIRST_PART * (1 - FIRST_PART) ** np.arange(len(starts)))
    error, largest = 0.0, None
    for part, place in zip(parts, np.searchsorted(counts, [*numbers, counts[-1]]), strict=True):
        error += ERROR * part
        flagged, toxic = counts[place], hits[place]
        # That so few or fewer of them are civil, at a precision of the target.
        if error and bdtr(flagged - toxic, int(flagged), 1 - target) <= error:
            largest = int(place)
        else:
            error = 0.0
    return largest


def least_flagged(target: float) -> int:
    """The fewest flagged rows that are tested for a precision: with nothing but toxic ones among them, they pass."""
    return ceil(max(log(ERROR * FIRST_PART) / log(target), 1 / target))


def _for_recall(counts: np.ndarray, hits: np.ndarray, target: float, shift: float) -> int | str:
    """As `_for_precision`. Recall only grows with the rows flagged, so that nothing is lost by testing all of them."""
    toxic = int(hits[-1])
    passed = np.flatnonzero(bdtr(toxic - hits, toxic, 1 - target) <= ERROR)
    # bdtr: that so few or fewer toxic comments are missed, at a recall of the target.
    if len(passed):
        return int(passed[0])
    needed = ceil(log(ERROR) / log(target) * counts[-1] / toxic)
    return _too_few(needed, int(counts[-1]))


def _for_flagged(counts: np.ndarray, hits: np.ndarray, target: float, shift: float) -> int | str:
    """As `_for_precision`: the most rows that can be flagged while the share of all comments stays below the target."""
    rows, toxic = int(counts[-1]), int(hits[-1])
    if not shift:
        # bdtr: that so few or fewer are flagged, at a share of the target.
        passed = np.flatnonzero(bdtr(counts, rows, target) <= ERROR)
    else:
        # Bounds of each class, as at another share of toxic comments the classes count otherwise.
        prior = expit(logit(toxic / rows) + shift)
        share = prior * _at_most(hits, toxic) + (1 - prior) * _at_most(counts - hits, rows - toxic)
        passed = np.flatnonzero(share <= target)
    if len(passed):
        return int(passed[-1])
    return f"not enough comments: with {rows:,}, no threshold can be sure to flag so few"


def _at_most(flagged: np.ndarray, rows: int) -> np.ndarray:
    """Upper bounds of a share, each class with half of the error (Clopper and Pearson 1934)."""
    return np.where(flagged < rows, betaincinv(flagged + 1, np.maximum(rows - flagged, 1), 1 - ERROR / 2), 1.0)


def _too_few(needed: float, rows: int) -> str:
    # Rounded to two digits: it is an estimate.
    unit = 10 ** max(0, len(str(ceil(needed))) - 2)
    return f"not enough comments: about {ceil(needed / unit) * unit:,} like these would do, and there are {rows:,}"


def precision_and_recall(scores: np.ndarray, toxic: np.ndarray, threshold: float) -> dict[str, float | None]:
    """Precision and recall of flagging the rows at or above a threshold, which is a logit if the scores are logits.

    Returns:
        `precision`, the share of flagged rows that is toxic, None if none is flagged; `recall`, the share of toxic
        rows that is flagged, None if none is toxic; `flagged`, the share of all rows that is flagged.
    """
    # With float32 scores, NumPy would round the threshold to float32 before the comparison.
    flagged = np.asarray(scores, dtype=np.float64) >= threshold
    hits, rows, positives = (int(which.sum()) for which in (flagged & toxic, flagged, toxic))
    return {
        "precision": hits / rows if rows else None,
        "recall": hits / positives if positives else None,
        "flagged": rows / len(flagged),
    }
