"""The pictures of a report: the one list that the report, its HTML and the model card show them from."""

from __future__ import annotations

from typing import NamedTuple


class ReportFigure(NamedTuple):
    """What a picture shows (also its alternative text), and how to read it."""

    title: str
    caption: str


# By file name in the folder `report`.
FIGURES = {
    "timing.png": ReportFigure(
        "Time of each phase", "Training is the loop alone, without evaluations and checkpoints."
    ),
    "training.png": ReportFigure(
        "Loss and learning rate over the steps", "The smoothed loss is its mean over a twentieth of the steps."
    ),
    "roc_by_label.png": ReportFigure(
        "ROC curve of each label",
        "In the order of the table: share of the comments with the label that are found against share of those without "
        "it that get it. The dashed line is chance.",
    ),
    "precision_recall_by_label.png": ReportFigure(
        "Precision and recall of each label",
        "In the order of the table. The mark is the threshold from which on the label is given, where it lies on all "
        "validation comments; chance is the share of the comments that have the label.",
    ),
    "roc.png": ReportFigure(
        "ROC curve",
        "Share of the toxic comments found against share of the civil ones called toxic. The right half shows the "
        "same curve on a logarithmic scale, for where few civil comments may be called toxic.",
    ),
    "precision_recall.png": ReportFigure(
        "Precision and recall", "Marks are the chosen thresholds, where they lie on all validation comments."
    ),
    "reliability.png": ReportFigure(
        "Reliability of the scores, before and after calibration",
        "On the diagonal, scores are probabilities; below it, comments are toxic less often than their score says. "
        "The bars show how many comments have such a score.",
    ),
    "bias.png": ReportFigure(
        "AUCs by identity", "The darker a cell, the worse the model ranks comments that mention the identity."
    ),
    "probe.png": ReportFigure(
        "Shift of the score by identity",
        "To the right of zero, naming the identity makes the same sentence look more toxic.",
    ),
}
