"""Unintended bias: whether comments that mention an identity are ranked as well as others (competition of 2019).

The three AUCs are those of Borkan et al. 2019, "Nuanced Metrics for Measuring Unintended Bias with Real Data for Text
Classification" (https://arxiv.org/abs/1903.04561); their combination is that of "Jigsaw Unintended Bias in Toxicity
Classification" (https://www.kaggle.com/c/jigsaw-unintended-bias-in-toxicity-classification/overview/evaluation).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from toxicity.core.schema import hard_labels
from toxicity.evaluation.roc import MINIMUM_CLASS_ROWS, auc_of_counts, count_by_score, why_undefined

# Name of an AUC → whether it is over the toxic rows with the identity (or those without), and likewise the civil rows.
# Rows whose identities nobody annotated count as without. BPSN (background positive, subgroup negative) is low if civil
# comments with the identity score like toxic ones without; BNSP is low if toxic comments with it score like civil ones.
CELLS = {"subgroup_auc": (True, True), "bpsn_auc": (False, True), "bnsp_auc": (True, False)}

POWER = -5


def bias_metrics(
    ranks: np.ndarray, toxic: np.ndarray, identities: Mapping[str, np.ndarray], auc: float | None
) -> tuple[dict[str, Any], dict[str, str]]:
    """The three bias AUCs of each identity, their power means, and the final score: the mean of these and `auc`.

    An AUC is undefined if one of its classes has fewer than `MINIMUM_CLASS_ROWS` rows. An identity with an undefined
    AUC is left out of all three means, so that they are over the same identities; `identities_counted` is their number.
    Means can only be compared if they are over the same identities, and with published scores if they are over all
    nine.

    Args:
        ranks: the result of `roc.score_ranks`, int64 `(rows,)`.
        toxic: bool `(rows,)`.
        identities: name → share of annotators who saw the identity mentioned, float `(rows,)`. A row has the identity
            at >= 0.5; NaN (not annotated) counts as 0.
        auc: AUC of all rows; None if undefined.

    Returns:
        A dictionary with `final_score`, the power means `subgroup_auc`, `bpsn_auc` and `bnsp_auc`,
        `identities_counted`, and `identities`: name → `rows`, `toxic_rows` and the three AUCs. And another one with the
        reason for each value that is undefined (None), by its dotted path in the first.
    """
    undefined: dict[str, str] = {}
    table: dict[str, dict[str, Any]] = {}
    for name, target in identities.items():
        groups = 2 * (hard_labels(target) > 0) + toxic
        without_civil, without_toxic, with_civil, with_toxic = count_by_score(ranks, groups, 4)
        toxic_rows = int(with_toxic.sum())
        table[name] = {"rows": toxic_rows + int(with_civil.sum()), "toxic_rows": toxic_rows}
        for cell, (toxic_with, civil_with) in CELLS.items():
            toxic_counts = with_toxic if toxic_with else without_toxic
            civil_counts = with_civil if civil_with else without_civil
            reason = why_undefined(toxic_counts, civil_counts, MINIMUM_CLASS_ROWS)
            table[name][cell] = None if reason else auc_of_counts(toxic_counts, civil_counts)
            if reason:
                undefined[f"identities.{name}.{cell}"] = reason

    counted = [row for row in table.values() if all(row[cell] is not None for cell in CELLS)]
    means = {cell: power_mean([row[cell] for row in counted]) if counted else None for cell in CELLS}
    final_score = None
    if not counted:
        undefined |= dict.fromkeys([*CELLS, "final_score"], "no identity has all three AUCs")
    elif auc is None:
        undefined["final_score"] = "the AUC of all rows is not defined"
    else:
        final_score = float(np.mean([auc, *means.values()]))
    return {"final_score": final_score, **means, "identities_counted": len(counted), "identities": table}, undefined


def power_mean(values: Sequence[float]) -> float:
    """Power mean of values from 0 to 1, `(mean of x^−5)^(−1/5)`: close to the smallest, and 0 (the limit) if one is 0.

    `scipy.stats.pmean` computes the same, but `scipy.stats` takes half a second to import.
    """
    return float(np.mean(np.power(values, POWER)) ** (1 / POWER)) if min(values) > 0 else 0.0
