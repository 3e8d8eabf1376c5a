"""Metrics and calibration of each label, over the rows of which somebody said whether they have it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from toxicity.core.schema import hard_labels
from toxicity.core.wanted import Wanted
from toxicity.evaluation.calibration import Calibration, calibrate
from toxicity.evaluation.metrics import judge_scores
from toxicity.evaluation.roc import auc_of_counts, count_by_score, score_ranks, why_undefined, why_unusable


def judge_labels(
    logits: np.ndarray,
    targets: np.ndarray,
    names: Sequence[str],
    identities: Mapping[str, np.ndarray],
    seed: int,
    wanted: Sequence[Wanted] = (),
    priors: Sequence[float | None] = (),
) -> tuple[dict[str, Any], dict[str, Calibration]]:
    """The section `metrics` of `benchmark.json`, and the calibration of each label.

    Args:
        logits: float32 `(rows, labels)`.
        targets: float64 `(rows, labels)`, 0 to 1, NaN where nobody said; a row has the label at >= 0.5. A label is
            judged on the rows that have a value alone.
        names: of the labels, the main one first.
        identities: name → share of annotators who saw that identity mentioned, float `(rows,)`, NaN where not
            annotated; {} for none.
        seed: of the folds of each label's calibration.
        wanted: what thresholds are wanted for, beside the usual ones, of each label.
        priors: share of rows with the label, for each label, that it is calibrated for; None for that of the rows.

    Returns:
        A dictionary that `json.dumps` takes: the result of `ToxicityMetric` for the main label, and `labels`: name →
        that result with `rows` (that have a value), `positives` (of them, those with the label) and `calibration`
        (`Calibration.measured`). With several labels also `mean_auc`, the mean column-wise AUC by which the competition
        of 2018 ranked, over the labels that have one, and `mean_auc_labels`, their number.

        Name → calibration, in the order of the labels; its `cross_fitted` are of the rows that have a value.
    """
    several = len(names) > 1
    labels: dict[str, dict[str, Any]] = {}
    calibrations: dict[str, Calibration] = {}
    priors = priors or [None] * len(names)
    for name, scores, target, prior in zip(names, logits.T, targets.T, priors, strict=True):
        rows = np.flatnonzero(~np.isnan(target))
        mentions = identities
        if len(rows) < len(target):
            mentions = {identity: shares[rows] for identity, shares in identities.items()}
        scores, target = scores[rows].astype(np.float64), target[rows]
        found = judge_scores(scores, target, mentions)
        calibration = calibrate(scores, target, seed, name if several else None, wanted, prior)
        calibrations[name] = calibration
        labels[name] = {
            "rows": len(rows),
            "positives": int(hard_labels(target).sum()),
            **found,
            "calibration": calibration.measured,
        }

    main = labels[names[0]]
    metrics = {name: value for name, value in main.items() if name not in ("rows", "positives", "calibration")}
    if not several:
        return metrics | {"labels": labels}, calibrations
    aucs = [found["auc"] for found in labels.values() if found["auc"] is not None]
    if not aucs:
        metrics["undefined"] = metrics["undefined"] | {"mean_auc": "no label has an AUC"}
    return metrics | {"mean_auc": _mean(aucs), "mean_auc_labels": len(aucs), "labels": labels}, calibrations


def label_aucs(logits: np.ndarray, targets: np.ndarray, names: Sequence[str]) -> dict[str, float | None]:
    """The AUC of the main label as `auc`; with several labels also `auc_<name>` of each and their mean, `mean_auc`.

    Args:
        logits, targets, names: as those of `judge_labels`; targets may be float32.

    Returns:
        None for an AUC that is undefined, and for a mean of none.
    """
    aucs = [_auc(*columns) for columns in zip(logits.T, targets.T, strict=True)]
    if len(names) == 1:
        return {"auc": aucs[0]}
    of_labels = {f"auc_{name}": auc for name, auc in zip(names, aucs, strict=True)}
    return {"auc": aucs[0], **of_labels, "mean_auc": _mean([auc for auc in aucs if auc is not None])}


def _auc(scores: np.ndarray, target: np.ndarray) -> float | None:
    rows = ~np.isnan(target)
    scores, toxic = scores[rows], hard_labels(target[rows]) > 0
    if why_unusable(scores):
        return None
    counts = count_by_score(score_ranks(scores), ~toxic)
    return None if why_undefined(*counts) else auc_of_counts(*counts)


def _mean(aucs: Sequence[float]) -> float | None:
    return float(np.mean(aucs)) if aucs else None
