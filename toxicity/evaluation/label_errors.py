"""Which labels are likely wrong, by confident learning on scores of models that had not seen them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from toxicity.core.errors import RequestError


class LabelQuality(NamedTuple):
    """What the scores say of each label: `quality` float64 `(rows,)` from 0 (surely wrong) to 1, and `suspect` bool
    `(rows,)`, the labels that confident learning takes for wrong.
    """

    quality: np.ndarray
    suspect: np.ndarray


def require_cleanlab() -> None:
    """Raise `RequestError` if the package that looks for wrong labels is not installed."""
    try:
        import cleanlab  # noqa: F401
    except ImportError as error:
        raise RequestError(f"{error.name} is not installed: pip install -r requirements-audit.txt") from error


def label_quality(labels: np.ndarray, scores: np.ndarray) -> LabelQuality:
    """Judge labels by scores from models that were not trained on the rows they scored.

    The quality of a label is the probability that the model gives it. Confident learning (Northcutt, Jiang and Chuang
    2021, "Confident Learning: Estimating Uncertainty in Dataset Labels", as cleanlab has it) estimates from the scores
    that are above the mean of a class how many labels of each class are wrong. As many of the worst are suspect, if the
    model also gives the other label more than 0.5.

    Args:
        labels: int8 `(rows,)`, 1 for toxic and 0 for civil, both among them.
        scores: probability of toxic, float64 `(rows,)`.
    """
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    classes, probabilities = labels.astype(np.int64), np.stack([1 - scores, scores], axis=1)
    # More processes than this one would each import this program anew, to save a second in a million rows.
    suspect = find_label_issues(classes, probabilities, n_jobs=1)
    return LabelQuality(get_label_quality_scores(classes, probabilities), suspect)
