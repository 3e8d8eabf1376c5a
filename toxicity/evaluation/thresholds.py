"""Thresholds with a guarantee: what is wanted of one holds on comments like those judged, with 90 % confidence.

Nobody may call the best of many thresholds by the precision that made it the best. So thresholds are tested, by exact
binomial tests and along sequences that are fixed before a label is seen, as in Learn then Test (Angelopoulos et al.
2021, arXiv 2110.01052). All scores must be of rows that the model was not trained on. Logits are finite floats
`(rows,)`, labels `toxic` bool `(rows,)` with a row of each class.
"""

from __future__ import annotations

from math import ceil, log
from typing import NamedTuple

import numpy as np
from scipy.special import bdtr, betaincinv, expit, logit

from toxicity.core.wanted import FLAGGED, PRECISION, RECALL, Wanted

CONFIDENCE = 0.9
ERROR = 1 - CONFIDENCE

# Numbers of flagged rows at which precision is tested: each 7 % above the one before. The sequence starts anew in
# three places, at the numbers with which a third of the error can just be kept to, times these: a first comment that is
# labelled wrong would otherwise end it at once.
STEP = 1.07
STARTS = (1.0, 2.0, 4.0)

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
    target = float(expit(logit(target) - shift))
    if (found := _certified(counts, hits, target)) is not None:
        return found
    rows = int(counts[-1])
    for times in np.geomspace(STEP, MOST_TIMES, 100):
        # As many comments more, with the same scores.
        if _certified(np.floor(counts * times), np.floor(hits * times), target) is not None:
            return _too_few(rows * times, rows)
    return f"no threshold has this precision, as far as {rows:,} comments can tell"


def _certified(counts: np.ndarray, hits: np.ndarray, target: float) -> int | None:
    """Test the numbers of rows from the first on; returns the place of the largest that passes, None if none does.

    Each start of the sequence has its part of the error, which goes on from a test that is passed to the next one
    (the fallback procedure, Wiens 2003, "A fixed sequence Bonferroni procedure …"). So the probability that one of the
    passed numbers has a lower precision than the target is at most `ERROR`, whatever the scores. Given the scores,
    labels are independent, and the binomial test holds for unequal probabilities, too (Hoeffding 1956).
    """
    first = ceil(log(ERROR / len(STARTS)) / log(target))
    starts = [first * times for times in STARTS]
    numbers = first * STEP ** np.arange(max(0, ceil(log(counts[-1] / first, STEP))))
    places = np.searchsorted(counts, [*numbers, counts[-1]])
    begun = np.searchsorted(numbers, starts)
    error, largest = 0.0, None
    for number, place in enumerate(places):
        if counts[place] < first:
            continue
        error += ERROR / len(STARTS) * np.count_nonzero(begun == number)
        flagged, toxic = counts[place], hits[place]
        # That so few or fewer of them are civil, at a precision of the target.
        if error and bdtr(flagged - toxic, int(flagged), 1 - target) <= error:
            largest = int(place)
        else:
            error = 0.0
    return largest


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


def precision_and_recall(logits: np.ndarray, toxic: np.ndarray, threshold: float) -> dict[str, float | None]:
    """Precision and recall of flagging the rows at or above a threshold, a logit; at least one row is toxic.

    Returns:
        `precision`, the share of flagged rows that is toxic, None if none is flagged; `recall`, the share of toxic
        rows that is flagged; `flagged`, the share of all rows that is flagged.
    """
    # With float32 logits, NumPy would round the threshold to float32 before the comparison.
    flagged = np.asarray(logits, dtype=np.float64) >= threshold
    hits = int((flagged & toxic).sum())
    rows = int(flagged.sum())
    return {
        "precision": hits / rows if rows else None,
        "recall": hits / int(toxic.sum()),
        "flagged": rows / len(flagged),
    }
