"""Metrics at the size of the published protocol: 500,000 rows, nine identities, one core, of one label and of seven.

    make bench-metrics

Logits and annotations are random, with the frequencies of the competition's file; the cost does not depend on their
meaning. The AUC of all rows and those of the 27 identity subsets are also computed with scikit-learn's
`roc_auc_score`, in the same rounds. Several labels are measured by `benchmarks.label_metrics`, in a process of its own.
Ratios are of the medians; above 1, this package is faster. The last line of standard output is the result as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.rounds import run_module, time_in_rounds
from toxicity.core.markdown import markdown_table
from toxicity.core.schema import IDENTITIES, hard_labels
from toxicity.evaluation.bias import CELLS, bias_metrics
from toxicity.evaluation.metrics import ToxicityMetric
from toxicity.evaluation.roc import auc_of_counts, count_by_score, score_ranks

CONTENDERS = {
    "metric": "the whole metric, through `evaluate` and Arrow",
    "arrow": "of that, `evaluate` and Arrow",
    "cells": "the 28 AUCs of this package",
    "sklearn": "the same 28 AUCs, scikit-learn's `roc_auc_score`",
}


def main() -> None:
    """Run the benchmark and print its table and its JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500_000, help="validation rows")
    parser.add_argument("--rounds", type=int, default=5, help="how often each contender runs")
    parser.add_argument("--labels", type=int, default=7, help="of the model with several")
    arguments = parser.parse_args()
    cores = stay_on_one_core()

    seconds, difference = measure(arguments.rows, arguments.rounds)
    print(f"{arguments.rows:,} rows, nine identities, {cores}, medians of {arguments.rounds} rounds\n")
    faster = {"sklearn": f"{seconds['sklearn'] / seconds['cells']:.1f}"}
    table = [(label, f"{seconds[name]:.3f}", faster.get(name, "")) for name, label in CONTENDERS.items()]
    print(markdown_table(("", "seconds", "this package is faster by"), table))
    print(f"\nLargest difference between the AUCs: {difference:.1e}.\n")
    flags = [part for name in ("rows", "labels") for part in (f"--{name}", str(getattr(arguments, name)))]
    of_labels = run_module("benchmarks.label_metrics", *flags)
    print(describe_labels(of_labels))
    result = {
        "metric_seconds": seconds["metric"],
        "arrow_seconds": seconds["arrow"],
        "cells_vs_sklearn": seconds["sklearn"] / seconds["cells"],
        "metric_vs_sklearn_cells": seconds["sklearn"] / seconds["metric"],
        "largest_difference": difference,
        **of_labels,
    }
    print(json.dumps(result))


def stay_on_one_core() -> str:
    """Keep this process and those that it starts on one core; returns where they compute, in words."""
    if not hasattr(os, "sched_setaffinity"):
        return "all cores"
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    return "one core"


def describe_labels(found: Mapping[str, float]) -> str:
    """The result of `benchmarks.label_metrics` for people."""
    return (
        f"{found['labels']} labels, their calibration included: {found['labels_seconds_one_core']:.2f} s; faster than "
        f"scikit-learn without it by {found['labels_vs_sklearn']:.1f}. "
        f"Largest difference: {found['labels_largest_difference']:.1e}."
    )


def measure(rows: int, rounds: int) -> tuple[dict[str, float], float]:
    """Run every contender in every round.

    Args:
        rows: validation rows.
        rounds: how often each contender runs.

    Returns:
        Median seconds by contender, and the largest difference between an AUC and scikit-learn's.
    """
    logits, targets, identities = random_rows(rows)
    inputs = {"predictions": logits, "references": targets}
    contenders: dict[str, Callable[[], Any]] = {
        "metric": lambda: ToxicityMetric().compute(**inputs, identities=identities),
        "arrow": lambda: _ArrowAlone().compute(**inputs),
        "cells": lambda: own_aucs(logits, targets, identities),
        "sklearn": lambda: sklearn_aucs(logits, targets, identities),
    }
    seconds, results = time_in_rounds(contenders, CONTENDERS, rounds)
    # Of few rows, some subsets have no toxic or no civil comment, and so no AUC: None here, NaN there.
    both = zip(results["cells"], results["sklearn"], strict=True)
    return seconds, max(abs(own - other) for own, other in both if own is not None)


def random_rows(rows: int) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Logits (float32), targets (8 % toxic) and identities (annotated on one row in four), `(rows,)` each."""
    rng = np.random.default_rng(1234)
    targets = rng.beta(0.25, 1.55, rows)
    logits = (6 * targets - 4 + rng.normal(0.0, 1.5, rows)).astype(np.float32)
    annotated = rng.random(rows) < 0.25
    identities = {name: np.where(annotated, rng.beta(0.1, 1.0, rows), np.nan) for name in IDENTITIES}
    return logits, targets, identities


class _ArrowAlone(ToxicityMetric):
    """The work of `evaluate` alone: the metric with nothing computed."""

    def _compute(self, predictions: Any, references: Any) -> dict[str, Any]:
        return {"logits": predictions.to_numpy(), "targets": references.to_numpy()}


def own_aucs(logits: np.ndarray, targets: np.ndarray, identities: Mapping[str, np.ndarray]) -> list[float]:
    """The AUC of all rows and those of the identity subsets, by this package."""
    ranks, toxic = score_ranks(logits), hard_labels(targets) > 0
    auc = auc_of_counts(*count_by_score(ranks, ~toxic))
    bias, _ = bias_metrics(ranks, toxic, identities, auc)
    return [auc, *(row[cell] for row in bias["identities"].values() for cell in CELLS)]


def sklearn_aucs(logits: np.ndarray, targets: np.ndarray, identities: Mapping[str, np.ndarray]) -> list[float]:
    """The same AUCs in the same order, by scikit-learn."""
    toxic = hard_labels(targets) > 0
    aucs = [roc_auc_score(toxic, logits)]
    for target in identities.values():
        within = hard_labels(target) > 0
        for rows in (within, np.where(toxic, ~within, within), np.where(toxic, within, ~within)):
            aucs.append(roc_auc_score(toxic[rows], logits[rows]))
    return aucs


if __name__ == "__main__":
    main()
