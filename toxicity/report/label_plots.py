"""Pictures of a run of several labels: a small panel for each of them, on shared axes, in the order of the labels."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from math import ceil
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.special import expit
from sklearn.metrics import precision_recall_curve, roc_curve

from toxicity.core.console import printable
from toxicity.evaluation.calibration import Calibration
from toxicity.evaluation.roc import why_unusable
from toxicity.evaluation.thresholds import precision_and_recall
from toxicity.report.label_tables import Labels
from toxicity.report.plots import CHANCE
from toxicity.report.tables import number

MOST_COLUMNS = 4
PANEL_INCHES = 2.7
NAME_CHARACTERS = 26
THRESHOLD = {"marker": "o", "color": "C1", "markersize": 8, "linestyle": "none"}


class Judged(NamedTuple):
    """The rows for which somebody said whether they have a label: labels, bool, and logits."""

    positive: np.ndarray
    logits: np.ndarray


def draw_roc_by_label(judged: Mapping[str, Judged], labels: Labels) -> Figure:
    """Draw the ROC curve of each label, by its name, that has one, and say why of the others."""

    def draw(axes: Axes, of_label: Judged, section: Mapping[str, Any]) -> str:
        false_positives, true_positives, _ = roc_curve(of_label.positive, of_label.logits)
        axes.plot(false_positives, true_positives)
        axes.plot([0, 1], [0, 1], **CHANCE)
        return f"AUC {number(section.get('auc'))}"

    figure = _small_multiples(judged, labels, draw, "false-positive rate", "true-positive rate")
    figure.suptitle("ROC curve of each label")
    return figure


def draw_precision_recall_by_label(judged: Mapping[str, Judged], labels: Labels) -> Figure:
    """Draw precision and recall of each label, by its name, that has a curve, with its threshold marked on it."""

    def draw(axes: Axes, of_label: Judged, section: Mapping[str, Any]) -> str:
        precision, recall, _ = precision_recall_curve(of_label.positive, of_label.logits, drop_intermediate=True)
        axes.plot(recall, precision, drawstyle="steps-post")
        axes.axhline(float(of_label.positive.mean()), **CHANCE)
        threshold = Calibration.from_benchmark(section.get("calibration")).pipeline_threshold
        scores = expit(of_label.logits.astype(np.float64))
        place = precision_and_recall(scores, of_label.positive, threshold)
        if place["precision"] is not None:
            axes.plot(place["recall"], place["precision"], **THRESHOLD, clip_on=False)
        return f"average precision {number(section.get('average_precision'), 4)}"

    figure = _small_multiples(judged, labels, draw, "recall", "precision")
    figure.suptitle("Precision and recall of each label")
    key = [Line2D([], [], **THRESHOLD, label="threshold of the label"), Line2D([], [], **CHANCE, label="chance")]
    figure.legend(handles=key, loc="outside lower center", ncols=2)
    return figure


def _small_multiples(
    judged: Mapping[str, Judged],
    labels: Labels,
    draw: Callable[[Axes, Judged, Mapping[str, Any]], str],
    xlabel: str,
    ylabel: str,
) -> Figure:
    """A panel for each label, which `draw` fills, if there are rows of both classes, and says what its title adds."""
    # As few rows as fit, and then as few columns: 5 labels are 3 and 2, not 4 and 1.
    rows = ceil(len(judged) / MOST_COLUMNS)
    columns = max(2, ceil(len(judged) / rows))
    figure = Figure(figsize=(PANEL_INCHES * columns + 0.5, (PANEL_INCHES + 0.35) * rows + 0.8))
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    panels = grid.ravel()
    for axes, (name, of_label) in zip(panels, judged.items(), strict=False):
        reason = _why_no_curve(of_label)
        found = "" if reason else draw(axes, of_label, labels[name])
        if reason:
            text = textwrap.fill(f"no curve: {reason}", 24)
            axes.text(0.5, 0.5, text, ha="center", va="center", color="0.35", transform=axes.transAxes)
        # A name is text, whatever dollars are in it.
        axes.set_title(f"{printable(name, NAME_CHARACTERS)}\n{found}", fontsize="medium", parse_math=False)
    # Short, so that those of neighbours do not touch.
    panels[0].set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
    panels[0].set_xticks((0, 0.5, 1), ("0", "0.5", "1"))
    panels[0].set_yticks((0, 0.5, 1), ("0", "0.5", "1"))
    for place, axes in enumerate(panels):
        if place >= len(judged):
            axes.remove()
            continue
        if place + columns >= len(judged):
            axes.tick_params(labelbottom=True)
            axes.set_xlabel(xlabel)
        if place % columns == 0:
            axes.set_ylabel(ylabel)
    return figure


def _why_no_curve(of_label: Judged) -> str | None:
    rows, positives = len(of_label.positive), int(of_label.positive.sum())
    if reason := why_unusable(of_label.logits):
        return reason
    if positives == 0:
        return f"none of {rows:,} comments has the label"
    return f"all {rows:,} comments have the label" if positives == rows else None
