"""How good the scores are."""

from __future__ import annotations

import datasets
import evaluate
import numpy as np
from sklearn.metrics import roc_auc_score

from toxicity.schema import hard_labels


class ToxicityMetric(evaluate.Metric):
    """ROC AUC of toxicity scores, as an `evaluate` metric that needs no Hub.

    `compute(predictions=..., references=...)` takes scores or logits, float `(rows,)` — AUC asks only for their
    order — and targets, float `(rows,)`, toxic at >= 0.5. It returns `{"auc": float}`, or `{"auc": None}` where
    the references hold one class only and the AUC is not defined.
    """

    def __init__(self) -> None:
        super().__init__(keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Area under the ROC curve of toxicity scores.",
            citation="https://scikit-learn.org/stable/modules/generated/sklearn.metrics.roc_auc_score.html",
            inputs_description="predictions: scores or logits. references: targets, toxic at >= 0.5.",
            # No format: that of NumPy would round to float32, make ties, and lift a target of 0.49999999 to 0.5.
            features=datasets.Features(
                {"predictions": datasets.Value("float64"), "references": datasets.Value("float64")}
            ),
        )

    def _compute(self, predictions: list[float], references: list[float]) -> dict[str, float | None]:
        labels = hard_labels(np.array(references))
        if labels.min() == labels.max():
            return {"auc": None}
        return {"auc": float(roc_auc_score(labels, predictions))}
