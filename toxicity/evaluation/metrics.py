"""How good the scores are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import datasets
import evaluate
import numpy as np
import pyarrow as pa

from toxicity.core.schema import hard_labels
from toxicity.evaluation.bias import bias_metrics
from toxicity.evaluation.calibration_metrics import brier_score, expected_calibration_error, log_loss
from toxicity.evaluation.roc import (
    MINIMUM_CLASS_ROWS,
    auc_interval,
    auc_of_counts,
    average_precision,
    count_by_score,
    score_ranks,
    why_undefined,
)

RANKING = ("auc", "auc_interval", "average_precision")
PROBABILITIES = {
    "log_loss": log_loss,
    "brier_score": brier_score,
    "expected_calibration_error": expected_calibration_error,
}


class ToxicityMetric(evaluate.Metric):
    """How well logits rank and how far they may be read as probabilities, as an `evaluate` metric that needs no Hub.

    `compute` takes:

    - `predictions`: logits, float `(rows,)`.
    - `references`: targets, float `(rows,)`, 0 to 1, toxic at >= 0.5. None may be NaN.
    - `identities`: optional, name → share of annotators who saw that identity mentioned, float `(rows,)`, 0 to 1,
      NaN where not annotated; see `bias.bias_metrics`.
    - `subtypes`: optional, name → (logits, targets), float `(rows,)` each; rows whose target is NaN are left out.

    It returns a dictionary that `json.dumps` takes: `auc`, `auc_interval` (95 %, DeLong; low and high),
    `average_precision`, `log_loss` (nats), `brier_score`, `expected_calibration_error`, `bias` (of
    `bias.bias_metrics`; None without annotated identities), `subtypes` (name → AUC; None where not given), and
    `undefined`. What is not defined is None, and `undefined` says why by its dotted path. `auc` and
    `average_precision` need a row of each class; the interval and the AUCs of identities and subtypes need
    `MINIMUM_CLASS_ROWS` of each. Nothing is defined where a logit is not finite.

    It raises ValueError for NaN in `references` and for arrays that differ in length.
    """

    def __init__(self) -> None:
        super().__init__(keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Ranking, calibration and unintended bias of toxicity scores.",
            citation="https://arxiv.org/abs/1903.04561",
            inputs_description="predictions: logits. references: targets, toxic at >= 0.5.",
            features=_Columns({"predictions": datasets.Value("float64"), "references": datasets.Value("float64")}),
            # That of NumPy would round to float32, make ties, and lift a target of 0.49999999 to 0.5.
            format="arrow",
        )

    def _compute(
        self,
        predictions: pa.ChunkedArray,
        references: pa.ChunkedArray,
        identities: Mapping[str, np.ndarray] | None = None,
        subtypes: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None,
    ) -> dict[str, Any]:
        logits, targets = predictions.to_numpy(), references.to_numpy()
        identities = {name: np.asarray(target, dtype=np.float64) for name, target in (identities or {}).items()}
        subtypes = {
            name: tuple(np.asarray(array, dtype=np.float64) for array in pair)
            for name, pair in (subtypes or {}).items()
        }
        _require_whole(targets, identities, subtypes)
        toxic = hard_labels(targets) > 0

        result: dict[str, Any] = dict.fromkeys((*RANKING, *PROBABILITIES, "bias"))
        if reason := _why_unusable(logits):
            undefined = dict.fromkeys((*RANKING, *PROBABILITIES, *(["bias"] if identities else [])), reason)
        else:
            ranks = score_ranks(logits)
            ranking, undefined = _ranking(ranks, toxic)
            result |= ranking | {name: measure(logits, toxic) for name, measure in PROBABILITIES.items()}
            if identities:
                result["bias"], reasons = _bias(ranks, toxic, identities, result["auc"])
                undefined |= reasons
        aucs = {name: _subtype_auc(*pair) for name, pair in subtypes.items()}
        undefined |= {f"subtypes.{name}": reason for name, (_, reason) in aucs.items() if reason}
        result["subtypes"] = {name: auc for name, (auc, _) in aucs.items()} or None
        return result | {"undefined": undefined}


class _Columns(datasets.Features):
    """Features that hand whole arrays to Arrow; those of `datasets` look at each one in Python: a second a million."""

    def encode_batch(self, batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return {name: np.asarray(values, dtype=np.float64) for name, values in batch.items()}


def _require_whole(
    targets: np.ndarray,
    identities: Mapping[str, np.ndarray],
    subtypes: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> None:
    if np.isnan(targets).any():
        raise ValueError(f"references: {int(np.isnan(targets).sum()):,} of {len(targets):,} targets are NaN")
    arrays = {**{name: (target,) for name, target in identities.items()}, **subtypes}
    for name, parts in arrays.items():
        for part in parts:
            if part.shape != targets.shape:
                raise ValueError(f"{name} has the shape {part.shape}, and references {targets.shape}")


def _why_unusable(logits: np.ndarray) -> str | None:
    if not len(logits):
        return "there are no rows"
    infinite = int((~np.isfinite(logits)).sum())
    return f"{infinite:,} of {len(logits):,} logits are not finite" if infinite else None


def _ranking(ranks: np.ndarray, toxic: np.ndarray) -> tuple[dict[str, Any], dict[str, str]]:
    toxic_rows = int(toxic.sum())
    civil_rows = len(toxic) - toxic_rows
    if reason := why_undefined(toxic_rows, civil_rows):
        return dict.fromkeys(RANKING), dict.fromkeys(RANKING, reason)
    counts = count_by_score(ranks, toxic)
    reason, interval = why_undefined(toxic_rows, civil_rows, MINIMUM_CLASS_ROWS), None
    if not reason:
        low, high = auc_interval(*counts)
        if low < high:
            interval = [low, high]
        else:
            # An interval without width would claim what a ranking without a mistake, or of ties alone, cannot tell.
            reason = "every row ranks alike against the other class, so that DeLong's variance is 0"
    return {
        "auc": auc_of_counts(*counts),
        "auc_interval": interval,
        "average_precision": average_precision(*counts),
    }, ({"auc_interval": reason} if reason else {})


def _bias(
    ranks: np.ndarray, toxic: np.ndarray, identities: Mapping[str, np.ndarray], auc: float | None
) -> tuple[dict[str, Any] | None, dict[str, str]]:
    if all(np.isnan(target).all() for target in identities.values()):
        return None, {"bias": "no row has its identities annotated"}
    bias, undefined = bias_metrics(ranks, toxic, identities, auc)
    return bias, {f"bias.{path}": reason for path, reason in undefined.items()}


def _subtype_auc(logits: np.ndarray, targets: np.ndarray) -> tuple[float | None, str | None]:
    annotated = ~np.isnan(targets)
    logits, toxic = logits[annotated], hard_labels(targets[annotated]) > 0
    toxic_rows = int(toxic.sum())
    if reason := _why_unusable(logits) or why_undefined(toxic_rows, len(toxic) - toxic_rows, MINIMUM_CLASS_ROWS):
        return None, reason
    return auc_of_counts(*count_by_score(score_ranks(logits), toxic)), None
