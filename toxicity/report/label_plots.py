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
from toxicity.evaluation.calibration import Calibration, precision_and_recall
from toxicity.evaluation.roc import why_undefined, why_unusable
from toxicity.report.label_tables import Labels
from toxicity.report.plots import CHANCE
from toxicity.report.tables import number

MOST_COLUMNS = 4
PANEL_INCHES = 2.7
NAME_CHARACTERS = 26
THRESHOLD = {"marker": "o", "color": "C1", "markersize": 8, "linestyle": "none"}


class Judged(NamedTuple):
    """The rows for which somebody said whether they have a label: their numbers, int64, labels, bool, and logits."""

    rows: np.ndarray
    positive: np.ndarray
    logits: np.ndarray


def draw_roc_by_label(judged: Mapping[str, Judged], labels: Labels) -> Figure:
    """Draw the ROC curve of each label, by its name, that has one, and say why of the others."""

    def draw(axes: Axes, of_label: Judged, section: Mapping[str, Any]) -> str:
        false_positives, true_positives, _ = roc_curve(of_label.positive, of_label.logits)
        axes.plot(false_positives, true_positives)
        axes.plot([0, 1], [0, 1], **CHANCE)
        return f"AUC {number(section.get('auc'))}"

    figure = _small_multiples(judged, labels, draw)
    figure.suptitle("ROC curve of each label")
    figure.supxlabel("false-positive rate: comments without the label that get it", fontsize="medium")
    figure.supylabel("true-positive rate: comments with the label found", fontsize="medium")
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

    figure = _small_multiples(judged, labels, draw)
    figure.suptitle("Precision and recall of each label")
    figure.supxlabel("recall: share of the comments with the label that get it", fontsize="medium")
    figure.supylabel("precision: share of the comments that get it which have it", fontsize="medium")
    key = [Line2D([], [], **THRESHOLD, label="threshold of the label"), Line2D([], [], **CHANCE, label="chance")]
    figure.legend(handles=key, loc="outside upper right", ncols=2)
    return figure


def _small_multiples(
    judged: Mapping[str, Judged], labels: Labels, draw: Callable[[Axes, Judged, Mapping[str, Any]], str]
) -> Figure:
    """A panel for each label, which `draw` fills, returning the number for its title, if it has rows of both classes."""
    # As few rows as fit, and then as few columns: 5 labels are 3 and 2, not 4 and 1.
    rows = ceil(len(judged) / MOST_COLUMNS)
    columns = max(2, ceil(len(judged) / rows))
    figure = Figure(figsize=(PANEL_INCHES * columns + 0.5, (PANEL_INCHES + 0.35) * rows + 0.8))
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    panels = grid.ravel()
    for axes, (name, of_label) in zip(panels, judged.items(), strict=False):
        reason = why_unusable(of_label.logits) or why_undefined(of_label.positive, ~of_label.positive)
        found = "" if reason else draw(axes, of_label, labels[name])
        if reason:
            text = textwrap.fill(f"no curve: {reason}", 24)
            axes.text(0.5, 0.5, text, ha="center", va="center", color="0.35", transform=axes.transAxes)
        # A name is text, whatever dollars are in it.
        axes.set_title(f"{printable(name, NAME_CHARACTERS)}\n{found}", fontsize="medium", parse_math=False)
    panels[0].set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    for place, axes in enumerate(panels):
        if place >= len(judged):
            axes.remove()
        elif place + columns >= len(judged):
            axes.tick_params(labelbottom=True)
    return figure
