"""Fit a temperature and thresholds on one half of the validation rows, and measure them on the other half.

Logits are float `(rows,)`, and finite where something is fitted to them or measured; labels `toxic` are bool `(rows,)`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit

from toxicity.core.console import quoted
from toxicity.core.schema import hard_labels
from toxicity.evaluation.calibration_metrics import CALIBRATION_METRICS, margins
from toxicity.evaluation.roc import MINIMUM_CLASS_ROWS, count_by_score, why_undefined, why_unusable

logger = logging.getLogger(__name__)

# A threshold must flag at least this many fitted rows, so that a single comment changes its precision by at most five
# points: the few highest scores alone may reach any precision by chance.
MINIMUM_FLAGGED_ROWS = 20

PRECISION_TARGETS = (0.5, 0.8, 0.9, 0.95)
# The target whose threshold is used where a single label, toxic or civil, is wanted.
LABEL_PRECISION_TARGET = 0.9
DEFAULT_THRESHOLD = 0.5

# The range to search. A best temperature outside of it is meaningless: the scores rank no better than chance, or
# separate the classes perfectly.
TEMPERATURES = (0.05, 20.0)


@dataclass(frozen=True)
class Calibration:
    """How logits become probabilities, and from which probability on a comment is labelled toxic."""

    temperature: float = 1.0  # what logits are divided by before the sigmoid
    threshold: float = DEFAULT_THRESHOLD  # probability from which on a comment is labelled toxic
    precision_target: float | None = None  # that `threshold` was fitted for; None for the default threshold
    thresholds: Mapping[str, float] = field(default_factory=dict)  # by precision target (`"0.8"`) that can be reached
    # Both None if nothing was fitted, and for a model that was loaded:
    measured: dict[str, Any] | None = None  # the section `calibration` of `benchmark.json`, see `calibrate`
    held_out: np.ndarray | None = None  # validation rows that nothing was fitted on, int64, ascending

    def scaled(self, logits: np.ndarray) -> np.ndarray:
        """Logits of any shape divided by the temperature, float64."""
        return np.asarray(logits, dtype=np.float64) / self.temperature

    def probability(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated probabilities, float64, of logits of any shape."""
        # As NumPy computes it: SciPy's expit differs in the last bit of one score in fifty.
        with np.errstate(over="ignore"):
            return 1.0 / (1.0 + np.exp(-self.scaled(logits)))

    @property
    def pipeline_threshold(self) -> float:
        """The threshold on the scale of `pipeline("text-classification")`, which does not apply the temperature."""
        return float(expit(self.temperature * logit(self.threshold)))

    def to_config(self) -> dict[str, Any]:
        """The calibration as it is saved in the section `toxicity` of the model's `config.json`."""
        return {
            "temperature": self.temperature,
            "threshold": self.threshold,
            "precision_target": self.precision_target,
            "thresholds": dict(self.thresholds),
        }

    @classmethod
    def from_benchmark(cls, measured: dict[str, Any] | None, held_out: np.ndarray | None = None) -> Calibration:
        """The calibration of a run, from the section `calibration` of its `benchmark.json`."""
        if measured is None:
            return cls()
        reached = {
            str(row["precision_target"]): row["threshold"]
            for row in measured["thresholds"]
            if row["threshold"] is not None
        }
        return cls(
            measured["temperature"], measured["threshold"], measured["precision_target"], reached, measured, held_out
        )

    @classmethod
    def from_config(cls, section: Mapping[str, Any]) -> Calibration:
        """The calibration that `to_config` saved; the defaults stand for missing values, as in models of others.

        Raises:
            AttributeError, TypeError, ValueError: for a section that this package did not write.
        """
        target = section.get("precision_target")
        return cls(
            temperature=float(section.get("temperature", 1.0)),
            threshold=float(section.get("threshold", DEFAULT_THRESHOLD)),
            precision_target=None if target is None else float(target),
            thresholds={str(float(name)): float(value) for name, value in section.get("thresholds", {}).items()},
        )


def calibrate(logits: np.ndarray, targets: np.ndarray, seed: int, label: str | None = None) -> Calibration:
    """Fit temperature and thresholds on one half of the rows, drawn by the seed, and measure them on the other.

    Thresholds are optimised on the fitted half, so on the other their precision is usually a little below the target.

    Args:
        logits: float `(rows,)`.
        targets: float `(rows,)`, toxic at >= 0.5.
        seed: seed of the draw; the global generators of NumPy and torch are neither used nor changed.
        label: its name for the log, where there are several.

    Returns:
        The calibration. Its `measured` is a dictionary that `json.dumps` takes: `fitted_rows`, `held_out_rows`,
        `temperature` (1.0 with a `temperature_reason` if none can be fitted), `held_out` (log loss, Brier score and
        expected calibration error, each `before` and `after` division by the temperature), `thresholds` (a row for
        each of `PRECISION_TARGETS`: `precision_target`, `threshold` on the calibrated scale sigmoid(logit /
        temperature), `pipeline_threshold` on the scale sigmoid(logit), `precision`, `recall`, `flagged`, with a
        `reason` if some of them are None), and the `threshold` for labels with its `precision_target`, or 0.5 and None
        if that target is not reached.

        If a half has fewer than `MINIMUM_CLASS_ROWS` rows of a class, or a logit is not finite, nothing is fitted, and
        the log says why.
    """
    logits, toxic = np.asarray(logits, dtype=np.float64), hard_labels(targets) > 0
    fitted, held_out = halves(len(logits), seed)
    of_label = "" if label is None else f" for the label {quoted(label)}"
    if reason := _why_unfittable(logits, toxic, fitted, held_out):
        logger.warning(f"Neither temperature nor thresholds are fitted{of_label}: {reason}.")
        return Calibration()

    logits_fitted, toxic_fitted = logits[fitted], toxic[fitted]
    logits_held_out, toxic_held_out = logits[held_out], toxic[held_out]
    temperature = fit_temperature(logits_fitted, toxic_fitted)
    unfitted = {}
    if temperature is None:
        temperature = 1.0
        unfitted["temperature_reason"] = f"no temperature from {TEMPERATURES[0]:g} to {TEMPERATURES[1]:g} is the best"
        logger.warning(f"Scores stay as they are{of_label}: {unfitted['temperature_reason']}.")

    cuts = choose_thresholds(logits_fitted, toxic_fitted, PRECISION_TARGETS)
    rows = [
        _threshold_row(target, cut, temperature, logits_held_out, toxic_held_out)
        for target, cut in zip(PRECISION_TARGETS, cuts, strict=True)
    ]
    label = next(row for row in rows if row["precision_target"] == LABEL_PRECISION_TARGET)
    reached = label["threshold"] is not None
    measured = {
        "fitted_rows": len(fitted),
        "held_out_rows": len(held_out),
        "temperature": temperature,
        **unfitted,
        "held_out": {
            name: {
                "before": measure(logits_held_out, toxic_held_out),
                "after": measure(logits_held_out / temperature, toxic_held_out),
            }
            for name, measure in CALIBRATION_METRICS.items()
        },
        "thresholds": rows,
        "precision_target": LABEL_PRECISION_TARGET if reached else None,
        "threshold": label["threshold"] if reached else DEFAULT_THRESHOLD,
    }
    return Calibration.from_benchmark(measured, held_out)


def halves(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers, int64, ascending, of the fitted and the held-out half, drawn by the seed; an odd row is held out."""
    is_fitted = np.zeros(rows, dtype=bool)
    is_fitted[np.random.default_rng(seed).permutation(rows)[: rows // 2]] = True
    return np.flatnonzero(is_fitted), np.flatnonzero(~is_fitted)


def fit_temperature(logits: np.ndarray, toxic: np.ndarray) -> float | None:
    """The temperature to divide logits by for the smallest log loss (Guo et al. 2017, "On Calibration of …").

    The log loss is convex in 1 / temperature, so its derivative increases, and the minimum is where it crosses 0. None
    if that is not within `TEMPERATURES`.
    """
    margin = margins(logits, toxic)

    def slope(inverse_temperature: float) -> float:
        return float(-(margin * expit(-inverse_temperature * margin)).mean())

    coldest, hottest = TEMPERATURES
    if not slope(1 / hottest) < 0 < slope(1 / coldest):
        return None
    return 1 / brentq(slope, 1 / hottest, 1 / coldest, xtol=1e-12)


def _why_unfittable(logits: np.ndarray, toxic: np.ndarray, fitted: np.ndarray, held_out: np.ndarray) -> str | None:
    if reason := why_unusable(logits):
        return reason
    for name, half in (("fitted", fitted), ("held-out", held_out)):
        if reason := why_undefined(toxic[half], ~toxic[half], MINIMUM_CLASS_ROWS):
            return f"in the {name} half {reason}"
    return None


def _threshold_row(
    target: float, cut: float | None, temperature: float, logits: np.ndarray, toxic: np.ndarray
) -> dict[str, Any]:
    """What a threshold, a logit, does to the held-out rows."""
    if cut is None:
        missing = dict.fromkeys(("threshold", "pipeline_threshold", "precision", "recall", "flagged"))
        reason = f"no threshold that flags {MINIMUM_FLAGGED_ROWS} fitted rows or more has this precision"
        return {"precision_target": target, **missing, "reason": reason}
    row = {
        "precision_target": target,
        "threshold": float(expit(cut / temperature)),
        "pipeline_threshold": float(expit(cut)),
        **precision_and_recall(logits, toxic, cut),
    }
    return row if row["precision"] is not None else row | {"reason": "no held-out row is flagged"}


def choose_thresholds(logits: np.ndarray, toxic: np.ndarray, precision_targets: Sequence[float]) -> list[float | None]:
    """For each precision the lowest threshold that reaches it; of all that do, it has the highest recall.

    Precision is not monotonic in the threshold, so all of them are examined. Rows with equal logits are flagged
    together or not at all.

    Returns:
        Logits: rows at or above one are flagged. Each lies midway between the lowest flagged and the highest other
        logit, so that small rounding differences do not change which rows are flagged. None if no threshold that flags
        at least `MINIMUM_FLAGGED_ROWS` rows reaches the target.
    """
    distinct, ranks = np.unique(np.asarray(logits, dtype=np.float64), return_inverse=True)
    toxic_rows, civil_rows = count_by_score(ranks, ~toxic)
    toxic_flagged = np.cumsum(toxic_rows[::-1])[::-1]
    flagged = np.cumsum((toxic_rows + civil_rows)[::-1])[::-1]
    precision = toxic_flagged / flagged
    return [
        _lower_bound(distinct, np.flatnonzero((precision >= target) & (flagged >= MINIMUM_FLAGGED_ROWS)))
        for target in precision_targets
    ]


def _lower_bound(distinct: np.ndarray, reached: np.ndarray) -> float | None:
    """The threshold that flags the rows from the first of the scores numbered `reached` on."""
    if not len(reached):
        return None
    lowest = float(distinct[reached[0]])
    below = float(distinct[max(reached[0] - 1, 0)])
    midway = below + (lowest - below) / 2
    # Between adjacent floats there is no other number, and midway rounds to one of the two.
    return midway if midway > below else lowest


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
