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
from toxicity.evaluation.roc import MINIMUM_CLASS_ROWS, count_by_score, twice_below, why_undefined

# Each is over toxic rows with the identity (the second: without it) and civil rows with it (the third: without).
# Rows whose identities nobody annotated count as without. BPSN (background positive, subgroup negative) is low if civil
# comments with the identity score like toxic ones without; BNSP is low if toxic comments with it score like civil ones.
CELLS = ("subgroup_auc", "bpsn_auc", "bnsp_auc")

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
    civil, toxic_counts = count_by_score(ranks, toxic)
    civil_rows, toxic_rows = int(civil.sum()), int(toxic_counts.sum())
    civil_below, toxic_below = twice_below(civil), twice_below(toxic_counts)
    for name, target in identities.items():
        within = np.flatnonzero(hard_labels(target) > 0)
        toxic_ranks, civil_ranks = ranks[within[toxic[within]]], ranks[within[~toxic[within]]]
        with_toxic, with_civil = len(toxic_ranks), len(civil_ranks)
        # Half pairs as in `roc.auc_of_counts`. Those with rows outside of the identity are those with all rows less
        # those inside of it: few rows mention an identity, so that few need be looked at.
        inside = int(twice_below(np.bincount(civil_ranks, minlength=len(civil)))[toxic_ranks].sum())
        of_civil = 2 * toxic_rows * with_civil - int(toxic_below[civil_ranks].sum())
        of_toxic = int(civil_below[toxic_ranks].sum())
        cells = (
            (inside, with_toxic, with_civil),
            (of_civil - inside, toxic_rows - with_toxic, with_civil),
            (of_toxic - inside, with_toxic, civil_rows - with_civil),
        )
        table[name] = {"rows": len(within), "toxic_rows": with_toxic}
        for cell, (half_pairs, *rows) in zip(CELLS, cells, strict=True):
            reason = why_undefined(*rows, MINIMUM_CLASS_ROWS)
            table[name][cell] = None if reason else half_pairs / (2 * rows[0] * rows[1])
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
