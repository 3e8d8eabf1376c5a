"""Maps from the logits of a model to those of probabilities, fitted to labels and compared by cross-validation.

A map is named by its method and described by the numbers fitted, its parameters. All of them rise strictly, so that
they change no ranking. Logits are finite floats, labels `toxic` bool, both `(rows,)`, with a row of each class.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit

RAW = "raw"
TEMPERATURE, PLATT, BETA, ISOTONIC = METHODS = ("temperature", "platt", "beta", "isotonic")
FOLDS = 10
# Fitting takes the same time for any number of rows, as more different scores than these are averaged in groups.
MOST_GROUPS = 4096

# The range to search for what logits are divided by. A best one outside of it is meaningless: the scores rank no better
# than chance, or separate the classes perfectly.
TEMPERATURES = (0.05, 20.0)
# In place of no regularisation, with which scikit-learn does not end where classes are separated.
INVERSE_REGULARISATION = 1e6


class Groups(NamedTuple):
    """Rows with about the same logit, taken together: `(groups,)` each, the lowest first."""

    logits: np.ndarray  # mean logits, float64, all of them different
    toxic: np.ndarray  # numbers of toxic rows, float64
    civil: np.ndarray


@dataclass(frozen=True)
class Choice:
    """The map that is used, and how the others compared."""

    method: str
    parameters: tuple[float, ...] = ()
    # For each of `METHODS`: cross-validated `log_loss`, its `gain` over the logits as they are, the gain's
    # `standard_error`; or the `reason` why it cannot be fitted.
    candidates: dict[str, dict[str, float | str]] = field(default_factory=dict)
    # Mapped logits of each row by a map that was fitted without it, float64 `(rows,)`.
    cross_fitted: np.ndarray | None = None


def choose_map(logits: np.ndarray, toxic: np.ndarray, seed: int) -> Choice:
    """The method with the smallest cross-validated log loss, fitted to all rows.

    None is taken that does not beat the logits as they are by more than the standard error of the mean difference over
    the rows. The one taken goes only 1 − (standard error / gain)² of the way from the logits as they are, much as James
    and Stein shrink an estimate (1961, "Estimation with quadratic loss"): what is fitted to few rows goes too far, the
    more so where it was chosen because it seemed to help.

    There are `FOLDS` folds, with the same share of toxic rows, drawn by the seed; the global generators of NumPy and
    torch are neither used nor changed.
    """
    logits = np.asarray(logits, dtype=np.float64)
    group_of_row, group_logits = _grouped(logits)
    fold_of_row = np.empty(len(logits), dtype=np.int64)
    fold_of_row[np.lexsort((np.random.default_rng(seed).random(len(logits)), toxic))] = np.arange(len(logits)) % FOLDS
    cells = (toxic * FOLDS + fold_of_row) * len(group_logits) + group_of_row
    counts = np.bincount(cells, minlength=2 * FOLDS * len(group_logits)).reshape(2, FOLDS, -1).astype(np.float64)
    of_folds = counts.swapaxes(0, 1)  # for each fold the civil and the toxic rows of each group
    civil, positive = counts.sum(axis=1)
    every = Groups(group_logits, positive, civil)
    before = _losses(group_logits)
    candidates: dict[str, dict[str, float | str]] = {}
    fitted: dict[str, tuple[tuple[float, ...], list[tuple[float, ...]]]] = {}
    for method in METHODS:
        parts = [
            fit_map(method, Groups(group_logits, every.toxic - toxic_rows, every.civil - civil_rows))
            for civil_rows, toxic_rows in of_folds
        ]
        whole = fit_map(method, every)
        if whole is None or None in parts:
            candidates[method] = {"reason": f"the best fit is outside of {TEMPERATURES[0]:g} to {TEMPERATURES[1]:g}"}
            continue
        fitted[method] = whole, parts
        gains = before - np.stack([_losses(apply_map(method, part, group_logits)) for part in parts])
        mean = float((gains * of_folds).sum() / len(logits))
        variance = float((np.square(gains - mean) * of_folds).sum() / (len(logits) - 1))
        loss = float((before * of_folds).sum() / len(logits)) - mean
        candidates[method] = {"log_loss": loss, "gain": mean, "standard_error": (variance / len(logits)) ** 0.5}
    better = [name for name in fitted if candidates[name]["gain"] > candidates[name]["standard_error"]]
    if not better:
        return Choice(RAW, (), candidates, logits)
    method = min(better, key=lambda name: candidates[name]["log_loss"])
    share = 1 - (candidates[method]["standard_error"] / candidates[method]["gain"]) ** 2
    whole, *parts = (
        _part_of_the_way(method, parameters, share) for parameters in (fitted[method][0], *fitted[method][1])
    )
    cross_fitted = np.empty(len(logits))
    for fold, part in enumerate(parts):
        cross_fitted[fold_of_row == fold] = apply_map(method, part, logits[fold_of_row == fold])
    return Choice(method, whole, candidates, cross_fitted)


def fit_map(method: str, groups: Groups) -> tuple[float, ...] | None:
    """Parameters of the map with the smallest log loss on the groups; None if there is none that rises.

    `temperature`: what logits are divided by (Guo et al. 2017, "On Calibration of Modern Neural Networks"). `platt`:
    slope and intercept (Platt 1999). `beta`: a, b and c of a ln(s) − b ln(1 − s) + c for a score s (Kull et al. 2017,
    "Beta calibration"). `isotonic`: the logits at which the blocks of the isotonic regression have their centres, then
    their values, in between which it is linear (Oron and Flournoy 2017, "Centered isotonic regression").
    """
    return _FITS[method](groups)


def apply_map(method: str, parameters: Sequence[float], logits: np.ndarray) -> np.ndarray:
    """The logits of probabilities, float64, of logits of any shape."""
    logits = np.asarray(logits, dtype=np.float64)
    if method == TEMPERATURE:
        return logits / parameters[0]
    if method == PLATT:
        return parameters[0] * logits + parameters[1]
    if method == BETA:
        a, b, c = parameters
        return a * -np.logaddexp(0.0, -logits) + b * np.logaddexp(0.0, logits) + c
    if method == ISOTONIC:
        places, values = np.split(np.asarray(parameters, dtype=np.float64), 2)
        # Beyond the first and the last block as the model has it.
        beyond = np.minimum(logits - places[0], 0.0) + np.maximum(logits - places[-1], 0.0)
        return np.interp(logits, places, values) + beyond
    return logits


def _part_of_the_way(method: str, parameters: tuple[float, ...], share: float) -> tuple[float, ...]:
    """Parameters of the map to the logits `share` of the way from those that are mapped to what these map them to."""
    if method == TEMPERATURE:
        return (1 / (1 + share * (1 / parameters[0] - 1)),)
    given = np.asarray(parameters, dtype=np.float64)
    if method == ISOTONIC:
        places, values = np.split(given, 2)
        return tuple(np.concatenate([places, places + share * (values - places)]).tolist())
    unchanged = np.array({PLATT: (1.0, 0.0), BETA: (1.0, 1.0, 0.0)}[method])
    return tuple((unchanged + share * (given - unchanged)).tolist())


def invert_map(method: str, parameters: Sequence[float], mapped: float) -> float:
    """The logit that is mapped to this one."""
    if method == TEMPERATURE:
        return mapped * parameters[0]
    if method == PLATT:
        return (mapped - parameters[1]) / parameters[0]
    if method in (BETA, ISOTONIC):
        bound = 1.0
        while not apply_map(method, parameters, -bound) <= mapped <= apply_map(method, parameters, bound):
            bound *= 2
        return brentq(lambda place: float(apply_map(method, parameters, place)) - mapped, -bound, bound, xtol=1e-12)
    return mapped


def fit_temperature(logits: np.ndarray, toxic: np.ndarray) -> float | None:
    """The temperature to divide logits by for the smallest log loss; None if it is not within `TEMPERATURES`."""
    found = _temperature(Groups(np.asarray(logits, dtype=np.float64), toxic.astype(np.float64), 1.0 - toxic))
    return None if found is None else found[0]


def _grouped(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The group of each row, int64 `(rows,)`, and the mean logit of each group, float64 `(groups,)`."""
    distinct, group_of_row, counts = np.unique(logits, return_inverse=True, return_counts=True)
    if len(distinct) <= MOST_GROUPS:
        return group_of_row, distinct
    # By rank, in groups of about the same size; equal logits stay together.
    group = (np.cumsum(counts) - 1) * MOST_GROUPS // len(logits)
    group = np.unique(group, return_inverse=True)[1]
    means = np.bincount(group, distinct * counts) / np.bincount(group, counts)
    return group[group_of_row], means


def _losses(logits: np.ndarray) -> np.ndarray:
    """The log loss at each logit of a civil and of a toxic row, `(2, logits)`."""
    return np.stack([np.logaddexp(0.0, logits), np.logaddexp(0.0, -logits)])


def _temperature(groups: Groups) -> tuple[float] | None:
    """The log loss is convex in 1 / temperature, so its derivative increases, and the minimum is where it crosses 0."""

    def slope(inverse_temperature: float) -> float:
        scaled = inverse_temperature * groups.logits
        return float(groups.logits @ (groups.civil * expit(scaled) - groups.toxic * expit(-scaled)))

    coldest, hottest = TEMPERATURES
    if not slope(1 / hottest) < 0 < slope(1 / coldest):
        return None
    return (1 / brentq(slope, 1 / hottest, 1 / coldest, xtol=1e-12),)


def _platt(groups: Groups) -> tuple[float, ...] | None:
    return _logistic(groups.logits[:, None], groups)


def _beta(groups: Groups) -> tuple[float, ...] | None:
    return _logistic(np.stack([-np.logaddexp(0.0, -groups.logits), np.logaddexp(0.0, groups.logits)], axis=1), groups)


def _logistic(features: np.ndarray, groups: Groups) -> tuple[float, ...] | None:
    """Slopes and the intercept of a logistic regression; None if a slope is not within what temperatures are."""
    # Here, as it takes half a second to import.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=INVERSE_REGULARISATION, solver="newton-cholesky")
    labels = np.repeat([0, 1], len(features))
    with warnings.catch_warnings():
        # Of classes that are separated; the slopes are then beyond all bounds.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(np.concatenate([features, features]), labels, np.concatenate([groups.civil, groups.toxic]))
    slopes = model.coef_[0]
    if not all(1 / TEMPERATURES[1] < slope < 1 / TEMPERATURES[0] for slope in slopes):
        return None
    return (*map(float, slopes), float(model.intercept_[0]))


def _isotonic(groups: Groups) -> tuple[float, ...] | None:
    from sklearn.isotonic import IsotonicRegression

    rows = groups.toxic + groups.civil
    there = rows > 0
    logits, rows, shares = groups.logits[there], rows[there], (groups.toxic[there] / rows[there])
    # So that no probability is 0 or 1, of which the log loss could be infinite.
    least = 1 / (rows.sum() + 2)
    fitted = IsotonicRegression(y_min=least, y_max=1 - least).fit(logits, shares, rows).predict(logits)
    values, block = np.unique(fitted, return_inverse=True)
    if len(values) < 2:
        return None
    centres = np.bincount(block, logits * rows) / np.bincount(block, rows)
    return (*map(float, centres), *map(float, logit(values)))


_FITS: dict[str, Callable[[Groups], tuple[float, ...] | None]] = {
    TEMPERATURE: _temperature,
    PLATT: _platt,
    BETA: _beta,
    ISOTONIC: _isotonic,
}
