"""Whether comments that mention an identity are ranked as well as others: the metric of the competition of 2019.

The three AUCs are those of Borkan et al. 2019, "Nuanced Metrics for Measuring Unintended Bias with Real Data for Text
Classification" (https://arxiv.org/abs/1903.04561); their combination is that of "Jigsaw Unintended Bias in Toxicity
Classification" (https://www.kaggle.com/c/jigsaw-unintended-bias-in-toxicity-classification/overview/evaluation).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from toxicity.core.schema import hard_labels
from toxicity.evaluation.roc import MINIMUM_CLASS_ROWS, auc_of_counts, count_groups_by_score, why_undefined

# Name → whether its toxic rows and whether its civil rows are those with the identity. The background is all other
# rows, those whose identities nobody annotated among them. BPSN, background positive and subgroup negative, is low
# where civil comments with the identity score like toxic ones; BNSP is low where toxic ones with it score like civil.
CELLS = {"subgroup_auc": (True, True), "bpsn_auc": (False, True), "bnsp_auc": (True, False)}

POWER = -5


def bias_metrics(
    ranks: np.ndarray, toxic: np.ndarray, identities: Mapping[str, np.ndarray], auc: float | None
) -> tuple[dict[str, Any], dict[str, str]]:
    """The bias AUCs of each identity, their power means, and the final score of the competition.

    A cell with fewer than `MINIMUM_CLASS_ROWS` rows of a class is not defined. An identity that lacks one of its three
    AUCs is left out of all three means, so that they are over the same identities; `identities_counted` says how many
    those are. Only means over the same identities compare, and only those over all nine with published scores.

    Args:
        ranks: of `roc.score_ranks`, int64 `(rows,)`.
        toxic: bool `(rows,)`.
        identities: name → share of annotators who saw the identity mentioned, float `(rows,)`; counted at >= 0.5,
            and NaN, not annotated, as 0.
        auc: of all rows, None where it is not defined.

    Returns:
        `final_score`, the power means `subgroup_auc`, `bpsn_auc` and `bnsp_auc`, `identities_counted`, and
        `identities`: name → `rows`, `toxic_rows` and the three AUCs. And why those that are None are not defined, by
        their dotted path in this dictionary.
    """
    undefined: dict[str, str] = {}
    table: dict[str, dict[str, Any]] = {}
    for name, target in identities.items():
        groups = 2 * (hard_labels(target) > 0) + toxic
        without_civil, without_toxic, with_civil, with_toxic = count_groups_by_score(ranks, groups, 4)
        toxic_rows = int(with_toxic.sum())
        table[name] = {"rows": toxic_rows + int(with_civil.sum()), "toxic_rows": toxic_rows}
        for cell, (toxic_with, civil_with) in CELLS.items():
            toxic_counts = with_toxic if toxic_with else without_toxic
            civil_counts = with_civil if civil_with else without_civil
            reason = why_undefined(int(toxic_counts.sum()), int(civil_counts.sum()), MINIMUM_CLASS_ROWS)
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
        final_score = final_score_of(auc, list(means.values()))
    return {
        "final_score": final_score,
        **means,
        "identities_counted": len(counted),
        "identities": table,
    }, undefined


def power_mean(values: Sequence[float], power: float = POWER) -> float:
    """`(mean of x^power)^(1/power)`; at −5 near the smallest value, so that the identity served worst decides.

    Args:
        values: at least one, from 0 to 1. A 0 makes the mean 0, the limit for a negative power.
        power: not 0.
    """
    if power < 0 and min(values) == 0:
        return 0.0
    return float(np.mean(np.power(values, power)) ** (1 / power))


def final_score_of(auc: float, means: Sequence[float]) -> float:
    """The competition's score: a quarter each of the AUC of all rows and of the three power means."""
    return float(np.mean([auc, *means]))
