"""How the logits of a label become probabilities, and from which probability on a comment has the label.

Logits are float `(rows,)`, and finite where something is fitted to them or measured; labels `toxic` are bool `(rows,)`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.special import expit, logit

from toxicity.core.console import quoted
from toxicity.core.errors import RequestError
from toxicity.core.schema import hard_labels
from toxicity.core.wanted import PRECISION, Wanted
from toxicity.evaluation.calibration_maps import METHODS, RAW, TEMPERATURE, apply_map, choose_map, invert_map
from toxicity.evaluation.calibration_metrics import CALIBRATION_METRICS
from toxicity.evaluation.roc import MINIMUM_CLASS_ROWS, why_undefined, why_unusable
from toxicity.evaluation.thresholds import CONFIDENCE, choose_threshold, least_flagged, precision_and_recall

logger = logging.getLogger(__name__)

PRECISION_TARGETS = (0.5, 0.8, 0.9, 0.95)
# The target whose threshold is used where a single label, toxic or civil, is wanted.
LABEL_PRECISION_TARGET = 0.9
DEFAULT_THRESHOLD = 0.5
# For who has too few.
HOW_MANY_WOULD_DO = (
    f"That takes {MINIMUM_CLASS_ROWS} comments of each class, all with finite scores, and a threshold for a precision "
    f"of {LABEL_PRECISION_TARGET:g} at least {least_flagged(LABEL_PRECISION_TARGET)} toxic ones."
)
# What is promised of a threshold, as a config says it; the report says more.
GUARANTEE = (
    f"With {100 * CONFIDENCE:g} % confidence for each threshold, on comments like those of the validation: at least "
    "this precision or recall, or at most this share flagged."
)


@dataclass(frozen=True)
class Calibration:
    """How logits become probabilities, and from which probability on a comment is labelled toxic."""

    temperature: float = 1.0  # what logits are divided by, where that is the method; else 1
    threshold: float = DEFAULT_THRESHOLD  # probability from which on a comment is labelled toxic
    precision_target: float | None = None  # that `threshold` is certified for; None for the default threshold
    thresholds: Mapping[str, float] = field(default_factory=dict)  # by `Wanted.name`, such as `0.8`: those there are
    method: str = TEMPERATURE  # of `calibration_maps`
    parameters: tuple[float, ...] = ()  # of another method
    base_rate: float | None = None  # share of toxic rows among those that it was fitted to
    prior: float | None = None  # share of toxic comments that probabilities are for; None for the `base_rate`
    # Both None if nothing was fitted, and for a model that was loaded:
    measured: dict[str, Any] | None = None  # the section `calibration` of `benchmark.json`, see `calibrate`
    # Logits of the probability of each row, by a map that was fitted without the row, float64 `(rows,)`.
    cross_fitted: np.ndarray | None = field(default=None, compare=False)

    @property
    def shift(self) -> float:
        """What is added to the log odds for the prior; 0 without one."""
        return 0.0 if self.prior is None else float(logit(self.prior) - logit(self.base_rate))

    def scaled(self, logits: np.ndarray) -> np.ndarray:
        """The logits of the calibrated probabilities, float64, of logits of any shape."""
        return apply_map(self.method, self._parameters, logits) + self.shift

    @property
    def _parameters(self) -> tuple[float, ...]:
        return (self.temperature,) if self.method == TEMPERATURE else self.parameters

    def probability(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated probabilities, float64, of logits of any shape."""
        # As NumPy computes it: SciPy's expit differs in the last bit of one score in fifty.
        with np.errstate(over="ignore"):
            return 1.0 / (1.0 + np.exp(-self.scaled(logits)))

    @property
    def pipeline_threshold(self) -> float:
        """The threshold on the scale of `pipeline("text-classification")`, which does not calibrate."""
        return float(expit(invert_map(self.method, self._parameters, float(logit(self.threshold)) - self.shift)))

    @property
    def precision_thresholds(self) -> dict[str, float]:
        """Those of `thresholds` that are for a precision."""
        return {name: value for name, value in self.thresholds.items() if Wanted.from_name(name).kind == PRECISION}

    def for_prior(self, prior: float) -> Calibration:
        """The same for comments of which another share is toxic; thresholds label the same comments as before.

        Posterior log odds change by as much as prior log odds (Elkan 2001, "The foundations of cost-sensitive
        learning", theorem 2; Saerens, Latinne and Decaestecker 2002), if the toxic and the civil comments are like
        those before. A `threshold` of 0.5 that was not chosen stays 0.5.

        Raises:
            RequestError: if it is not known what share of the comments was toxic that this was fitted to.
        """
        if self.base_rate is None:
            raise RequestError(
                "--prior needs the share of toxic comments that the scores were fitted to, and the model's config.json "
                "does not have it (`base_rate`): leave --prior out, or train the model with this version."
            )
        moved = float(logit(prior) - logit(self.base_rate)) - self.shift

        def other(threshold: float) -> float:
            return float(expit(logit(threshold) + moved))

        thresholds = {name: other(value) for name, value in self.thresholds.items()}
        threshold = self.threshold if self.precision_target is None else other(self.threshold)
        return replace(self, prior=prior, threshold=threshold, thresholds=thresholds)

    def to_config(self) -> dict[str, Any]:
        """The calibration as it is saved in the section `toxicity` of the model's `config.json`."""
        return {
            "temperature": self.temperature,
            "threshold": self.threshold,
            "precision_target": self.precision_target,
            "thresholds": dict(self.thresholds),
            "guarantee": GUARANTEE if self.base_rate is not None and self.thresholds else None,
            "method": self.method,
            "parameters": list(self.parameters),
            "base_rate": self.base_rate,
            "prior": self.prior,
        }

    @classmethod
    def from_benchmark(cls, measured: dict[str, Any] | None, cross_fitted: np.ndarray | None = None) -> Calibration:
        """The calibration of a run, from the section `calibration` of its `benchmark.json`, by any version."""
        if measured is None:
            return cls()
        reached = {name_of_row(row): row["threshold"] for row in measured["thresholds"] if row["threshold"] is not None}
        section = {**measured, "thresholds": reached}
        return replace(cls.from_config(section), measured=measured, cross_fitted=cross_fitted)

    @classmethod
    def from_config(cls, section: Mapping[str, Any]) -> Calibration:
        """The calibration that `to_config` saved; the defaults stand for missing values, as in models of others.

        Raises:
            AttributeError, TypeError, ValueError: for a section that this package did not write.
        """
        known = {name: section.get(name) for name in ("precision_target", "base_rate", "prior")}
        # Earlier versions knew temperatures alone.
        method = section.get("method", TEMPERATURE)
        if method not in (RAW, *METHODS):
            raise ValueError(f"{method} is no method of calibration")
        calibration = cls(
            temperature=float(section.get("temperature", 1.0)),
            threshold=float(section.get("threshold", DEFAULT_THRESHOLD)),
            thresholds={
                Wanted.from_name(str(name)).name: float(value) for name, value in section.get("thresholds", {}).items()
            },
            method=method,
            parameters=tuple(map(float, section.get("parameters", ()))),
            **{name: None if value is None else float(value) for name, value in known.items()},
        )
        try:
            calibration.scaled(np.zeros(1))
        except IndexError as error:
            raise ValueError(f"{method} has more parameters") from error
        return calibration


def calibrate(
    logits: np.ndarray,
    targets: np.ndarray,
    seed: int,
    label: str | None = None,
    wanted: Sequence[Wanted] = (),
    prior: float | None = None,
) -> Calibration:
    """Choose how logits become probabilities, by cross-validation, and certify thresholds, all with all rows.

    Args:
        logits: float `(rows,)`, of rows that the model was not trained on.
        targets: float `(rows,)`, toxic at >= 0.5.
        seed: seed of the folds; the global generators of NumPy and torch are neither used nor changed.
        label: its name for the log, where there are several.
        wanted: what thresholds are wanted for, beside the `PRECISION_TARGETS`.
        prior: share of toxic comments, above 0 and below 1, that probabilities and thresholds are to be for; by
            default that of the rows. Recalls are the same for all.

    Returns:
        The calibration. Its `measured` is a dictionary that `json.dumps` takes: `rows`, `base_rate`, `prior`,
        `confidence`, the `method` with its `parameters`, `temperature`, the `candidates` (see
        `calibration_maps.Choice`), `cross_validated` (log loss, Brier score and expected calibration error, each
        `before` and `after`), `thresholds` (a row for each one wanted: `precision_target`, `recall_target` or
        `flagged_target`, `threshold` on the calibrated scale, `pipeline_threshold` on the scale sigmoid(logit), and
        `precision`, `recall` and `flagged` of the rows, at the prior; all of them None with a `reason` where it cannot
        be certified), and the `threshold` for labels with its `precision_target`, or 0.5 and None if that target cannot
        be certified.

        If there are fewer than `MINIMUM_CLASS_ROWS` rows of a class, or a logit is not finite, nothing is fitted, and
        the log says why.
    """
    logits, toxic = np.asarray(logits, dtype=np.float64), hard_labels(targets) > 0
    of_label = "" if label is None else f" for the label {quoted(label)}"
    if reason := why_unusable(logits) or why_undefined(toxic, ~toxic, MINIMUM_CLASS_ROWS):
        logger.warning(f"Neither scores are calibrated nor thresholds chosen{of_label}: {reason}. {HOW_MANY_WOULD_DO}")
        return Calibration()

    choice = choose_map(logits, toxic, seed)
    scale = Calibration(
        temperature=choice.parameters[0] if choice.method == TEMPERATURE else 1.0,
        method=choice.method,
        parameters=() if choice.method == TEMPERATURE else choice.parameters,
        base_rate=float(toxic.mean()),
        prior=prior,
    )
    every = dict.fromkeys((*(Wanted(PRECISION, target) for target in PRECISION_TARGETS), *wanted))
    rows = [_threshold_row(one, scale, logits, toxic) for one in every]
    at = next(row for row in rows if row.get("precision_target") == LABEL_PRECISION_TARGET)
    certified = at["threshold"] is not None
    if not certified:
        logger.warning(
            f"Labels are given from a score of {DEFAULT_THRESHOLD:g} on{of_label}, as no threshold is certified for a "
            f"precision of {LABEL_PRECISION_TARGET:g}: {at['reason']}."
        )
    measured = {
        "rows": len(logits),
        "base_rate": scale.base_rate,
        "prior": prior,
        "confidence": CONFIDENCE,
        "method": choice.method,
        "parameters": list(scale.parameters),
        "temperature": scale.temperature,
        "candidates": choice.candidates,
        # At the share of toxic comments that these rows have.
        "cross_validated": {
            name: {"before": measure(logits, toxic), "after": measure(choice.cross_fitted, toxic)}
            for name, measure in CALIBRATION_METRICS.items()
        },
        "thresholds": rows,
        "precision_target": LABEL_PRECISION_TARGET if certified else None,
        "threshold": at["threshold"] if certified else DEFAULT_THRESHOLD,
    }
    return Calibration.from_benchmark(measured, choice.cross_fitted)


def name_of_row(row: Mapping[str, Any]) -> str:
    """The key in `Calibration.thresholds` of a row of `thresholds` in `Calibration.measured`."""
    kind, value = next((key.removesuffix("_target"), row[key]) for key in row if key.endswith("_target"))
    return Wanted(kind, float(value)).name


def _threshold_row(wanted: Wanted, scale: Calibration, logits: np.ndarray, toxic: np.ndarray) -> dict[str, Any]:
    """The threshold for what is wanted, and what it does to the rows."""
    cut, reason = choose_threshold(logits, toxic, wanted, scale.shift)
    target = {f"{wanted.kind}_target": wanted.value}
    if cut is None:
        missing = dict.fromkeys(("threshold", "pipeline_threshold", "precision", "recall", "flagged"))
        return target | missing | {"reason": reason}
    thresholds = {"threshold": float(scale.probability(cut)), "pipeline_threshold": float(expit(cut))}
    found = precision_and_recall(logits, toxic, cut)
    if scale.prior is not None and found["flagged"]:
        civil_flagged = found["flagged"] * (1 - found["precision"]) / (1 - scale.base_rate)
        toxic_flagged = scale.prior * found["recall"]
        flagged = toxic_flagged + (1 - scale.prior) * civil_flagged
        found |= {"precision": toxic_flagged / flagged, "flagged": flagged}
    return target | thresholds | found
