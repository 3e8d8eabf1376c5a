"""The points that pictures of scores are drawn through: half a million rows become a few thousand."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import precision_recall_curve, roc_curve

# More than a picture has pixels across.
POINTS = 2000


def roc_points(toxic: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ROC curve.

    Args:
        toxic: bool `(rows,)`, both classes among the rows.
        scores: float `(rows,)`, in any scale.

    Returns:
        False-positive and true-positive rates, float `(points,)` each, both from 0 to 1.
    """
    false_positive_rate, true_positive_rate, _ = roc_curve(toxic, scores)
    return thinned(false_positive_rate, true_positive_rate)


def precision_recall_points(toxic: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The precision-recall curve.

    Args:
        toxic: bool `(rows,)`, at least one True.
        scores: float `(rows,)`, in any scale.

    Returns:
        Recall, falling from 1 to 0, and the precision at it, float `(points,)` each.
    """
    precision, recall, _ = precision_recall_curve(toxic, scores, drop_intermediate=True)
    return thinned(recall, precision)


def thinned(x: np.ndarray, y: np.ndarray, points: int = POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Leave at most `points` of a curve, evenly along its way, both ends among them.

    Args:
        x: float `(n,)`.
        y: float `(n,)`.
        points: 2 at least.
    """
    if len(x) <= points:
        return x, y
    way = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
    kept = np.searchsorted(way, np.linspace(0.0, way[-1], points))
    kept[-1] = len(x) - 1
    kept = np.unique(kept)
    return x[kept], y[kept]


def smoothed(values: np.ndarray, share: float = 0.05) -> np.ndarray:
    """Running mean over a window that is centred on each value, narrower at the ends.

    Args:
        values: float `(n,)`.
        share: width of the window, as a share of `n`.

    Returns:
        float `(n,)`.
    """
    half = max(1, round(share * len(values) / 2))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    first, last = np.maximum(places - half, 0), np.minimum(places + half + 1, len(values))
    return (sums[last] - sums[first]) / (last - first)
