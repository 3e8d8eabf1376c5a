import numpy as np
import pytest
from example_run import labelled_run

from toxicity.core.console import printable
from toxicity.evaluation.calibration import Calibration
from toxicity.report import label_plots
from toxicity.report.label_plots import Judged

DRAWINGS = pytest.mark.parametrize(
    ("draw", "axes"),
    [
        (label_plots.draw_roc_by_label, {"ROC curve of each label", "false-positive rate", "true-positive rate"}),
        (
            label_plots.draw_precision_recall_by_label,
            {"Precision and recall of each label", "recall", "precision", "threshold of the label", "chance"},
        ),
    ],
    ids=["roc", "precision and recall"],
)


def judged(names, shares=None):
    """The rows of each label with a value, and what was measured on them."""
    validation, evaluation, row = labelled_run(names, 400, shares, identities=())
    found = {}
    for place, (name, column) in enumerate(zip(names, validation.column_names[2:], strict=True)):
        values = validation[column][:]
        rows = np.array([row for row, value in enumerate(values) if value is not None])
        found[name] = Judged(np.array(values, np.float64)[rows] >= 0.5, evaluation.logits[rows, place])
    return found, row["metrics"]["labels"]


@DRAWINGS
@pytest.mark.parametrize("count", [2, 3, 5, 7, 12, 13])
def test_a_panel_for_each_label(drawn, draw, axes, count):
    rows, labels = judged([f"label{place}" for place in range(count)])
    texts = drawn(draw, rows, labels)
    assert axes <= texts
    measured = {"AUC": "auc", "average precision": "average_precision"}
    titles = [text for text in texts if text.startswith("label")]
    assert len(titles) == count
    for title in titles:
        name, (what, value) = title.split("\n")[0], title.split("\n")[1].rsplit(" ", 1)
        assert float(value) == pytest.approx(labels[name][measured[what]], abs=1e-4)


@DRAWINGS
def test_a_label_without_a_curve_says_why(drawn, draw, axes):
    rows, labels = judged(["main", "none", "all", "broken"], [0.2, 0.0, 1.0, 0.2])
    rows["broken"].logits[3] = np.nan
    texts = {" ".join(text.split()) for text in drawn(draw, rows, labels)}
    assert {
        "no curve: none of 360 comments has the label",
        "no curve: all 360 comments have the label",
        "no curve: 1 of 360 logits are not finite",
    } <= texts


@DRAWINGS
@pytest.mark.parametrize(
    "name", ["$x^2$", "$", "\\frac{", "a" * 200, "two\nlines", "\u202eright to left", "\x1b[2J", "<b>|`"]
)
def test_names_of_labels_are_only_text(drawn, draw, axes, name):
    rows, labels = judged(["main", name])
    (title,) = [text for text in drawn(draw, rows, labels) if "\n" in text and not text.startswith("main")]
    shown, _ = title.split("\n")
    assert shown == printable(name, label_plots.NAME_CHARACTERS)


def test_the_threshold_is_marked_on_the_curve(drawn):
    rows, labels = judged(["main", "other"])
    figure = label_plots.draw_precision_recall_by_label(rows, labels)
    for axes, (name, of_label) in zip(figure.axes, rows.items(), strict=True):
        (mark,) = [line for line in axes.lines if line.get_marker() == "o"]
        threshold = labels[name]["calibration"]["threshold"] if labels[name]["calibration"] else 0.5
        found = Calibration.from_benchmark(labels[name]["calibration"]).probability(of_label.logits) >= threshold
        precision, recall = of_label.positive[found].mean(), found[of_label.positive].mean()
        assert [*mark.get_xdata(), *mark.get_ydata()] == pytest.approx([recall, precision])
