"""How well scores serve as probabilities: log loss, Brier score, expected calibration error, reliability diagram.

This module only measures; `calibration` fits the temperature that improves these numbers. All functions take finite
logits, float `(rows,)`, and labels, bool `(rows,)`, and compute in float64.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import expit

BINS = 15


def log_loss(logits: np.ndarray, toxic: np.ndarray) -> float:
    """Mean negative logarithm (in nats) of the probability of the true class.

    It is computed from logits, as `log(1 + exp(∓logit))`, so it is finite even if a probability rounds to 0 or 1.
    """
    return float(np.logaddexp(0.0, -margins(logits, toxic)).mean())


def brier_score(logits: np.ndarray, toxic: np.ndarray) -> float:
    """Mean squared difference between probability and label, 0 to 1 (Brier 1950)."""
    return float(np.square(expit(-margins(logits, toxic))).mean())


def margins(logits: np.ndarray, toxic: np.ndarray) -> np.ndarray:
    """Logits of the true class, float64 `(rows,)`: those of the toxic rows, and minus those of the civil rows."""
    logits = np.asarray(logits, dtype=np.float64)
    return np.where(toxic, logits, -logits)


class ReliabilityBins(NamedTuple):
    """The data of a reliability diagram: arrays `(bins,)` for the bins that are not empty, lowest scores first."""

    rows: np.ndarray  # number of rows
    mean_score: np.ndarray  # mean predicted probability
    toxic_share: np.ndarray  # share of rows that are toxic


def reliability_bins(logits: np.ndarray, toxic: np.ndarray) -> ReliabilityBins:
    """Group rows by their probability of being toxic, in bins of equal width from 0 to 1; empty bins are left out."""
    scores = expit(np.asarray(logits, dtype=np.float64))
    bin_of_row = np.minimum((scores * BINS).astype(np.int64), BINS - 1)
    rows = np.bincount(bin_of_row, minlength=BINS)
    filled = rows > 0
    return ReliabilityBins(
        rows[filled],
        np.bincount(bin_of_row, scores, BINS)[filled] / rows[filled],
        np.bincount(bin_of_row, toxic, BINS)[filled] / rows[filled],
    )


def expected_calibration_error(logits: np.ndarray, toxic: np.ndarray) -> float:
    """Mean difference, weighted by rows, between toxic share and mean probability in the bins, 0 to 1.

    15 bins of equal width, as in Guo et al. 2017, "On Calibration of Modern Neural Networks" (the estimator is that
    of Naeini et al. 2015), but over the probability of being toxic instead of that of the likelier class, so that it
    is the distance from the diagonal of the reliability diagram. Equal widths make it comparable with published values;
    if most comments score near 0, they share a bin, in which errors of both signs cancel.
    """
    bins = reliability_bins(logits, toxic)
    return float((bins.rows * np.abs(bins.toxic_share - bins.mean_score)).sum() / bins.rows.sum())


CALIBRATION_METRICS = {
    "log_loss": log_loss,
    "brier_score": brier_score,
    "expected_calibration_error": expected_calibration_error,
}
