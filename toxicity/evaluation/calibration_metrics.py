"""Whether scores may be read as probabilities: log loss, Brier score and expected calibration error.

What machines do to a run is another matter: `checkpoints`, `resuming` and `watch`.

All take logits, float `(rows,)` and finite, and labels, bool `(rows,)`, and work in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

BINS = 15


def log_loss(logits: np.ndarray, toxic: np.ndarray) -> float:
    """Mean negative logarithm, in nats, of the probability given to what the row is.

    It is taken from the logits, `log(1 + exp(∓logit))`, and so stays finite where the probability rounds to 0 or 1.
    """
    return float(np.logaddexp(0.0, -margins(logits, toxic)).mean())


def brier_score(logits: np.ndarray, toxic: np.ndarray) -> float:
    """Mean squared difference of probability and label, 0 to 1 (Brier 1950)."""
    return float(np.square(expit(-margins(logits, toxic))).mean())


def margins(logits: np.ndarray, toxic: np.ndarray) -> np.ndarray:
    """Logits with the sign turned for civil rows: how much the row speaks for what it is, float64 `(rows,)`."""
    logits = np.asarray(logits, dtype=np.float64)
    return np.where(toxic, logits, -logits)


@dataclass
class ReliabilityBins:
    """What a reliability diagram shows, for the bins that hold rows, lowest scores first; arrays `(bins,)`."""

    rows: np.ndarray
    mean_score: np.ndarray
    toxic_share: np.ndarray


def reliability_bins(logits: np.ndarray, toxic: np.ndarray, bins: int = BINS) -> ReliabilityBins:
    """Group rows by their probability of being toxic, into bins of equal width from 0 to 1, empty ones left out."""
    scores = expit(np.asarray(logits, dtype=np.float64))
    bin_of_row = np.minimum((scores * bins).astype(np.int64), bins - 1)
    rows = np.bincount(bin_of_row, minlength=bins)
    filled = rows > 0
    return ReliabilityBins(
        rows[filled],
        np.bincount(bin_of_row, scores, bins)[filled] / rows[filled],
        np.bincount(bin_of_row, toxic, bins)[filled] / rows[filled],
    )


def expected_calibration_error(logits: np.ndarray, toxic: np.ndarray) -> float:
    """Mean distance, over rows, of the share that is toxic in a row's bin from the mean probability there, 0 to 1.

    15 bins of equal width, as in Guo et al. 2017, "On Calibration of Modern Neural Networks" (the estimator is that
    of Naeini et al. 2015), but over the probability of being toxic instead of that of the likelier class, so that it
    is the distance from the diagonal of the reliability diagram. Equal width is what published figures use; where
    most comments score near 0, they share a bin, and errors of both signs in there cancel.
    """
    bins = reliability_bins(logits, toxic)
    return float((bins.rows * np.abs(bins.toxic_share - bins.mean_score)).sum() / bins.rows.sum())
