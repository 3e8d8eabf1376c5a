"""How good scores are on comments of another source, with the calibration and thresholds of the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from toxicity.core.schema import hard_labels
from toxicity.evaluation.calibration import Calibration
from toxicity.evaluation.metrics import judge_scores
from toxicity.evaluation.roc import why_unusable
from toxicity.evaluation.thresholds import precision_and_recall


def judge_others(logits: np.ndarray, targets: np.ndarray, calibrations: Mapping[str, Calibration]) -> dict[str, Any]:
    """Metrics of comments that neither the model nor its calibration has seen.

    Args:
        logits: float `(rows, labels)`.
        targets: float64 `(rows, labels)`, 0 to 1, NaN where nobody said; a row has the label at >= 0.5. A label is
            judged on the rows that have a value alone.
        calibrations: of the labels by name, in their order, the main one first.

    Returns:
        A dictionary that `json.dumps` takes, of the main label: `rows` (that have a value), `positives`, `auc`,
        `auc_interval`, `average_precision`, `log_loss`, `brier_score` and `expected_calibration_error` as
        `ToxicityMetric` has them, of calibrated logits; `threshold`, from which on a comment is flagged; `precision`,
        `recall` and `flagged` there, None where they are not defined; and `undefined`, with the reasons for metrics
        that are None. With several labels also `labels`: the same for each, by name.
    """
    labels = {
        name: _judge(logits[:, place], targets[:, place], calibration)
        for place, (name, calibration) in enumerate(calibrations.items())
    }
    main = next(iter(labels.values()))
    return main | {"labels": labels} if len(labels) > 1 else main


def _judge(logits: np.ndarray, targets: np.ndarray, calibration: Calibration) -> dict[str, Any]:
    rows = np.flatnonzero(~np.isnan(targets))
    toxic = hard_labels(targets[rows]) > 0
    found = {"rows": len(rows), "positives": int(toxic.sum())}
    if not len(rows):
        nothing = judge_scores(np.full(1, np.nan), np.zeros(1), {})
        reasons = dict.fromkeys(nothing["undefined"], "no comment has a value of this label")
        found |= {name: value for name, value in nothing.items() if name != "bias"} | {"undefined": reasons}
    else:
        measured = judge_scores(calibration.scaled(logits[rows]), targets[rows], {})
        found |= {name: value for name, value in measured.items() if name != "bias"}
    at = dict.fromkeys(("precision", "recall", "flagged"))
    if len(rows) and not why_unusable(logits[rows]):
        at = precision_and_recall(calibration.probability(logits[rows]), toxic, calibration.threshold)
    return found | {"threshold": calibration.threshold} | at
