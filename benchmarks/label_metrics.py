"""Metrics and calibration of several labels at the size of the published protocol: 500,000 rows, nine identities.

    python -m benchmarks.label_metrics [--labels 7]     # part of `make bench-metrics`

Logits and annotations are random, and of each label after the first one row in ten has no value. `labels` is all that a
run computes from its scores: metrics, intervals, and the calibration of each label. `sklearn` is what scikit-learn has
of that, in the same rounds: AUC, average precision, log loss, Brier score and 27 AUCs of identities of each label. Both
run on one core. Ratios are of the medians; above 1, this package is faster. The last line of standard output is JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import expit
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss

from benchmarks.metrics import describe_labels, random_rows, sklearn_aucs, stay_on_one_core
from benchmarks.rounds import time_in_rounds
from toxicity.core.schema import hard_labels
from toxicity.evaluation.bias import CELLS
from toxicity.evaluation.label_metrics import judge_labels

CONTENDERS = {"labels": "metrics and calibration of all labels", "sklearn": "the metrics by scikit-learn"}
SEED = 1234


def main() -> None:
    """Run the benchmark and print a sentence and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500_000, help="validation rows")
    parser.add_argument("--labels", type=int, default=7, help="of each row")
    parser.add_argument("--rounds", type=int, default=3, help="how often each contender runs")
    arguments = parser.parse_args()
    stay_on_one_core()

    logits, targets, identities = random_labels(arguments.rows, arguments.labels)
    names = [f"label {number}" for number in range(1, arguments.labels + 1)]
    contenders = {
        "labels": lambda: judge_labels(logits, targets, names, identities, SEED)[0],
        "sklearn": lambda: sklearn_figures(logits, targets, identities),
    }
    seconds, results = time_in_rounds(contenders, CONTENDERS, arguments.rounds)
    pairs = zip(own_figures(results["labels"]["labels"]), results["sklearn"], strict=True)
    found = {
        "labels": arguments.labels,
        "labels_seconds_one_core": seconds["labels"],
        "labels_vs_sklearn": seconds["sklearn"] / seconds["labels"],
        # Of few rows, some subsets have no toxic or no civil comment, and so no AUC: None here, NaN there.
        "labels_largest_difference": max(abs(own - other) for own, other in pairs if own is not None),
    }
    print(describe_labels(found))
    print(json.dumps(found))


def random_labels(rows: int, labels: int) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Logits (float32) and targets (NaN where unknown) `(rows, labels)`, and the identities of `random_rows`."""
    rng = np.random.default_rng(SEED)
    first, main, identities = random_rows(rows)
    targets = main[:, None] * rng.uniform(0.6, 1.0, (rows, labels))
    targets[:, 0] = main
    targets[:, 1:][rng.random((rows, labels - 1)) < 0.1] = np.nan
    logits = first[:, None] + rng.normal(0.0, 1.0, (rows, labels))
    return logits.astype(np.float32), targets, identities


def own_figures(labels: Mapping[str, Mapping]) -> list[float | None]:
    """The figures of `sklearn_figures`, in their order, in the result of `judge_labels`."""
    return [
        figure
        for found in labels.values()
        for figure in (
            *(found[name] for name in ("average_precision", "log_loss", "brier_score", "auc")),
            *(row[cell] for row in found["bias"]["identities"].values() for cell in CELLS),
        )
    ]


def sklearn_figures(logits: np.ndarray, targets: np.ndarray, identities: Mapping[str, np.ndarray]) -> Sequence[float]:
    """Average precision, log loss, Brier score, AUC and the AUCs of identities of each label, by scikit-learn."""
    figures = []
    for scores, target in zip(logits.T.astype(np.float64), targets.T, strict=True):
        known = ~np.isnan(target)
        scores, target = scores[known], target[known]
        toxic, probabilities = hard_labels(target) > 0, expit(scores)
        figures += [
            average_precision_score(toxic, scores),
            log_loss(toxic, probabilities),
            brier_score_loss(toxic, probabilities),
            *sklearn_aucs(scores, target, {name: share[known] for name, share in identities.items()}),
        ]
    return figures


if __name__ == "__main__":
    main()
