"""The metric that the best weights are chosen by: whether this run measures it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from toxicity.core.errors import RequestError
from toxicity.core.schema import TOXIC_THRESHOLD
from toxicity.core.training_checks import OF_A_LABEL


def require_measurable(metric: str | None, names: Sequence[str], labels: np.ndarray) -> None:
    """Raise `RequestError` unless the metric is one of this run's, and the validation rows allow to compute it.

    Args:
        metric: the value of `--metric_for_best_model`.
        names: those of the labels, the main one first.
        labels: of the validation rows, float `(rows,)`, or `(rows, labels)` of several, NaN where nobody said.
    """
    name = (metric or "loss").removeprefix("eval_")
    if name == "loss":
        return
    several = len(names) > 1
    judged = {"auc": [0]}
    if several:
        judged |= {"mean_auc": range(len(names))}
        judged |= {f"{OF_A_LABEL}{label}": [place] for place, label in enumerate(names)}
    if name not in judged:
        raise RequestError(
            f"--metric_for_best_model {metric}: this run has {'the labels' if several else 'no label but'} "
            f"{', '.join(names)}; what it measures is loss, {', '.join(judged)}."
        )
    values = labels.reshape(len(labels), -1)[:, judged[name]]
    toxic, civil = values >= TOXIC_THRESHOLD, values < TOXIC_THRESHOLD  # NaN is neither
    if (toxic.any(0) & civil.any(0)).any():
        return
    rows = int((toxic | civil).any(1).sum())
    of_which = "" if not several or name == "mean_auc" else f" that `{names[judged[name][0]]}` is known of"
    why = f"all {rows:,} validation rows{of_which} are {'toxic' if toxic.any() else 'civil'}"
    if not rows:
        why = f"there are no validation rows{of_which}"
    raise RequestError(
        f"the best weights cannot be chosen by the AUC: {why}. Name other validation data, or leave "
        "--metric_for_best_model and --early_stopping_patience out."
    )
