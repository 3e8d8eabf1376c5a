"""All metrics of a run in one call: ranking, calibration and bias of the scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import datasets
import evaluate
import numpy as np
import pyarrow as pa

from toxicity.core.schema import hard_labels
from toxicity.evaluation.bias import bias_metrics
from toxicity.evaluation.calibration_metrics import CALIBRATION_METRICS
from toxicity.evaluation.roc import (
    MINIMUM_CLASS_ROWS,
    auc_interval,
    auc_of_counts,
    average_precision,
    count_by_score,
    score_ranks,
    why_undefined,
    why_unusable,
)

RANKING = ("auc", "auc_interval", "average_precision")


class ToxicityMetric(evaluate.Metric):
    """An `evaluate` metric for toxicity scores, which needs no download from the Hub.

    `compute` takes:

    - `predictions`: logits, float `(rows,)`.
    - `references`: targets, float `(rows,)` from 0 to 1; a row is toxic at >= 0.5.
    - `identities`: optional, name → share of annotators who saw that identity mentioned, float `(rows,)` from 0 to 1,
      NaN if not annotated; see `bias.bias_metrics`.

    It returns a dictionary that `json.dumps` takes: `auc`, `auc_interval` (95 %, DeLong; low and high),
    `average_precision`, `log_loss` (nats), `brier_score`, `expected_calibration_error`, `bias` (the result of
    `bias.bias_metrics`; None without annotated identities), and `undefined`: the reason for each value that is None, by
    its dotted path. `auc` and `average_precision` need a row of each class, the interval and the AUCs of identities
    `MINIMUM_CLASS_ROWS` of each. Everything is undefined if a logit is not finite.

    Raises:
        ValueError: for NaN in `references`, and for arrays of different lengths.
    """

    def __init__(self) -> None:
        # `evaluate` makes a folder even if nothing is kept there, so in the one that is known to take the tokens.
        super().__init__(keep_in_memory=True, cache_dir=str(datasets.config.HF_DATASETS_CACHE))

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Ranking, calibration and unintended bias of toxicity scores.",
            citation="https://arxiv.org/abs/1903.04561",
            features=_ArrayFeatures(dict.fromkeys(("predictions", "references"), datasets.Value("float64"))),
            # The NumPy format would round to float32, which creates ties, and lifts a target of 0.49999999 to 0.5.
            format="arrow",
        )

    def _compute(
        self,
        predictions: pa.ChunkedArray,
        references: pa.ChunkedArray,
        identities: Mapping[str, np.ndarray] | None = None,
    ) -> dict[str, Any]:
        logits, targets = predictions.to_numpy(), references.to_numpy()
        identities = {name: np.asarray(target, dtype=np.float64) for name, target in (identities or {}).items()}
        if np.isnan(targets).any():
            raise ValueError(f"references: {int(np.isnan(targets).sum()):,} of {len(targets):,} targets are NaN")
        for name, values in identities.items():
            if values.shape != targets.shape:
                raise ValueError(f"{name} has the shape {values.shape}, and references {targets.shape}")
        return judge_scores(logits, targets, identities)


class _ArrayFeatures(datasets.Features):
    """Hands whole arrays to Arrow; `datasets.Features` would convert each number in Python: a second per million."""

    def encode_batch(self, batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return {name: np.asarray(values, dtype=np.float64) for name, values in batch.items()}


def judge_scores(logits: np.ndarray, targets: np.ndarray, identities: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The result of `ToxicityMetric`.

    Args:
        logits: float `(rows,)`.
        targets: float `(rows,)`, 0 to 1, none of them NaN.
        identities: as those of `ToxicityMetric`; {} for none.
    """
    toxic = hard_labels(targets) > 0

    result: dict[str, Any] = dict.fromkeys((*RANKING, *CALIBRATION_METRICS, "bias"))
    if reason := why_unusable(logits):
        undefined = dict.fromkeys((*RANKING, *CALIBRATION_METRICS), reason)
        if identities:
            undefined["bias"] = reason
    else:
        ranks = score_ranks(logits)
        ranking, undefined = _ranking(ranks, toxic)
        result |= ranking | {name: measure(logits, toxic) for name, measure in CALIBRATION_METRICS.items()}
        if identities and all(np.isnan(target).all() for target in identities.values()):
            undefined["bias"] = "no row has its identities annotated"
        elif identities:
            result["bias"], reasons = bias_metrics(ranks, toxic, identities, result["auc"])
            undefined |= {f"bias.{path}": reason for path, reason in reasons.items()}
    return result | {"undefined": undefined}


def _ranking(ranks: np.ndarray, toxic: np.ndarray) -> tuple[dict[str, Any], dict[str, str]]:
    """The metrics named in `RANKING`, and the reasons for those that are undefined."""
    counts = count_by_score(ranks, ~toxic)
    if reason := why_undefined(*counts):
        return dict.fromkeys(RANKING), dict.fromkeys(RANKING, reason)
    interval = None
    if not (reason := why_undefined(*counts, MINIMUM_CLASS_ROWS)):
        low, high = auc_interval(*counts)
        if low < high:
            interval = [low, high]
        else:
            # With perfect ranking, or all scores equal, the estimated variance is 0, but the AUC is not known exactly.
            reason = "every row ranks alike against the other class, so that DeLong's variance is 0"
    ranking = (auc_of_counts(*counts), interval, average_precision(*counts))
    return dict(zip(RANKING, ranking, strict=True)), ({"auc_interval": reason} if reason else {})
