"""Pictures of a run: ROC, precision and recall, reliability, training and timing. They read in grey as well.

`write` saves them, in the style of `toxicity.mplstyle`. In all functions `toxic` is bool `(rows,)` and `logits` are
finite floats `(rows,)`; `metrics` and `calibration` are those of the benchmark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from scipy.special import expit
from sklearn.metrics import precision_recall_curve, roc_curve

from toxicity.bench.picture import time_unit
from toxicity.bench.runs import PHASES
from toxicity.core.console import h_mm_ss
from toxicity.evaluation.calibration_maps import RAW
from toxicity.evaluation.calibration_metrics import BINS, expected_calibration_error, reliability_bins
from toxicity.evaluation.thresholds import precision_and_recall
from toxicity.report.tables import interval, number, told_target

PERCENT = FuncFormatter(lambda share, _: f"{100 * share:g} %")
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
CHANCE = {"color": "0.5", "linestyle": "--", "linewidth": 1}


def draw_roc(toxic: np.ndarray, logits: np.ndarray, metrics: Mapping[str, Any]) -> Figure:
    """Draw the ROC curve of rows of both classes: as it is, and with the false-positive rate on a logarithmic scale."""
    false_positives, true_positives, _ = roc_curve(toxic, logits)
    figure = Figure(figsize=(10, 5))
    bounds = f" (95 % interval {interval(metrics['auc_interval'])})" if metrics.get("auc_interval") else ""
    figure.suptitle(f"ROC curve, AUC {number(metrics.get('auc'))}{bounds}")
    linear, logarithmic = figure.subplots(1, 2, sharey=True)
    for axes in (linear, logarithmic):
        axes.plot(false_positives, true_positives)
        chance = np.geomspace(1e-9, 1, 200)
        axes.plot(chance, chance, **CHANCE, label="chance")
    linear.set(xlabel="false-positive rate: civil comments called toxic", xlim=(-0.01, 1.01))
    linear.set(ylabel="true-positive rate: toxic comments found", ylim=(-0.01, 1.01))
    linear.legend(loc="lower right")
    # From where a single civil comment is flagged, and a decade at least.
    least = float(np.clip(0.5 / np.sum(~toxic), 1e-5, 0.1))
    logarithmic.set(xlabel="the same, logarithmic", xscale="log", xlim=(least, 1))
    logarithmic.xaxis.set_major_formatter(PERCENT)
    logarithmic.xaxis.set_minor_formatter(NullFormatter())
    return figure


def draw_precision_recall(
    toxic: np.ndarray, logits: np.ndarray, metrics: Mapping[str, Any], calibration: Mapping[str, Any] | None
) -> Figure:
    """Draw the precision-recall curve of rows of which at least one is toxic.

    Each threshold of `calibration` that was reached is marked where it lies for these rows.
    """
    precision, recall, _ = precision_recall_curve(toxic, logits, drop_intermediate=True)
    figure = Figure(figsize=(6.6, 6))
    axes = figure.subplots()
    known = metrics.get("average_precision")
    figure.suptitle("Precision and recall" + ("" if known is None else f", average precision {known:.5f}"))
    # In steps: a slope between two thresholds would promise a precision that no threshold has.
    axes.plot(recall, precision, drawstyle="steps-post")
    share = float(np.mean(toxic))
    axes.axhline(share, **CHANCE, label=f"chance: {100 * share:.1f} % are toxic")
    reached = [row for row in (calibration or {}).get("thresholds", []) if row.get("pipeline_threshold") is not None]
    scores = expit(logits.astype(np.float64))
    for index, row in enumerate(reached):
        place = precision_and_recall(scores, toxic, row["pipeline_threshold"])
        if place["precision"] is not None:
            mark = {"marker": MARKS[index % len(MARKS)], "color": f"C{index + 1}", "markersize": 10, "clip_on": False}
            label = f"threshold {row['threshold']:.3f}, for {told_target(row)}"
            axes.plot(place["recall"], place["precision"], **mark, linestyle="none", label=label)
    axes.set(xlabel="recall: share of the toxic comments that are called toxic", xlim=(-0.01, 1.01))
    axes.set(ylabel="precision: share of the comments called toxic that are", ylim=(-0.01, 1.02))
    # Below the axes, so that it covers no curve.
    figure.legend(loc="outside lower center", ncols=1 if len(reached) < 2 else 2)
    return figure


def draw_reliability(
    toxic: np.ndarray, logits: np.ndarray, calibrated: np.ndarray | None = None, method: str = RAW
) -> Figure:
    """Draw the reliability diagram and the distribution of the scores, of at least one row.

    Where they were calibrated, both are drawn before and after it: `calibrated` are the logits of rows by maps of that
    method that were fitted without them.
    """
    fitted = calibrated is not None and method != RAW
    drawn = [("scores", logits, "C0", "s-")]
    if fitted:
        drawn = [("before", logits, "C1", "o--"), (f"after ({method})", calibrated, "C0", "s-")]
    figure = Figure(figsize=(6.6, 7.4))
    judged_on = ",\non comments that it was not fitted to" if fitted else ""
    figure.suptitle(f"Reliability of the scores{judged_on}")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], **CHANCE, label="scores are probabilities")
    width = 0.8 / BINS / len(drawn)
    for index, (name, scale, color, style) in enumerate(drawn):
        bins = reliability_bins(scale, toxic)
        label = f"{name}: expected calibration error {expected_calibration_error(scale, toxic):.4f}"
        upper.plot(bins.mean_score, bins.toxic_share, style, color=color, clip_on=False, label=label)
        # A mean of 1.0 is in the last bin.
        centres = (np.minimum(np.floor(bins.mean_score * BINS), BINS - 1) + 0.5) / BINS
        places = centres + (index - (len(drawn) - 1) / 2) * width
        lower.bar(places, bins.rows / len(toxic), width, color=color)
    upper.set(ylabel="share of the comments that are toxic", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    # So that a bin of a single row shows.
    lower.set(xlabel="score", ylabel="share of all comments", yscale="log", ylim=(0.6 / len(toxic), 1.3))
    lower.yaxis.set_major_formatter(PERCENT)
    lower.yaxis.set_minor_formatter(NullFormatter())
    figure.legend(loc="outside lower center")
    return figure


def losses_logged(log_history: Sequence[Mapping[str, Any]]) -> bool:
    """Whether there is a loss to draw: a run shorter than its `logging_steps` logs none."""
    return len(_logged(log_history, "loss")[0]) > 0


def draw_training(log_history: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw loss and learning rate over the steps, and the AUC if there were evaluations during training.

    `log_history` is that of `trainer.state`, with at least one loss.
    """
    steps, losses = _logged(log_history, "loss")
    evaluated = {name: _logged(log_history, f"eval_{name}") for name in ("loss", "auc", "mean_auc")}
    panels = 3 if len(evaluated["auc"][0]) or len(evaluated["mean_auc"][0]) else 2
    figure = Figure(figsize=(8, 2.4 * panels + 0.8))
    figure.suptitle("Training")
    upper, *others = figure.subplots(panels, 1, sharex=True, height_ratios=(2, 1, 1)[:panels])
    few = {"marker": "o", "markersize": 4} if len(steps) < 30 else {}
    upper.plot(steps, losses, color="C3", linewidth=1, label="loss", **few)
    if len(steps) >= 5:
        upper.plot(steps, running_mean(losses), color="C0", label="loss, smoothed")
    if len(evaluated["loss"][0]):
        upper.plot(*evaluated["loss"], "s--", color="C2", label="loss of the evaluation")
    # A single spike would otherwise press the rest of the curve flat.
    highest = max(np.quantile(losses, 0.98, method="higher"), *running_mean(losses), *evaluated["loss"][1], 1e-9)
    upper.set(ylabel="loss", ylim=(0, 1.1 * highest))
    upper.legend()
    others[0].plot(*_logged(log_history, "learning_rate"), **few)
    others[0].ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    others[0].set(ylabel="learning rate", ylim=(0, None))
    if panels == 3:
        others[1].plot(*evaluated["auc"], "s--", color="C2", label="main label")
        if len(evaluated["mean_auc"][0]):
            others[1].plot(*evaluated["mean_auc"], "o--", color="C0", label="mean over the labels")
            others[1].legend()
        others[1].set_ylabel("AUC of the evaluation")
        others[1].ticklabel_format(axis="y", useOffset=False)
    others[-1].set_xlabel("step")
    others[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    others[-1].xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    return figure


def draw_timing(benchmark: Mapping[str, Any]) -> Figure:
    """Draw the time of each phase, with its rows per second, from `machine`, `timing` and `throughput`."""
    timing = benchmark["timing"]
    seconds = [timing[f"{phase}_seconds"] for phase in PHASES]
    size, unit = time_unit(max(seconds))
    remarks = {
        "tokenizer": ", from the cache" if timing["tokenizer_cache_hit"] else "",
        "training": ", resumed: its last part" if timing.get("resumed") else "",
    }
    figure = Figure(figsize=(8, 2.6))
    axes = figure.subplots()
    figure.suptitle(f"Time on {benchmark['machine']['label']}")
    bars = axes.barh(PHASES, [taken / size for taken in seconds], 0.65, color=[f"C{n}" for n in range(len(PHASES))])
    labels = []
    for phase, taken in zip(PHASES, seconds, strict=True):
        rate = benchmark["throughput"][f"{phase}_rows_per_second"]
        speed = f", {rate:,.{int(rate < 10)}f} rows/s" if rate else ""
        labels.append(f"{h_mm_ss(taken)}{speed}{remarks.get(phase, '')}")
    axes.bar_label(bars, labels, padding=5, fontsize=9)
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    # Room for the text behind the longest bar.
    axes.set(xlabel=unit, xlim=(0, 1.45 * max(max(seconds) / size, 1e-9)))
    return figure


def running_mean(values: np.ndarray) -> np.ndarray:
    """Running mean, float `(n,)`, over a centred window of a twentieth of the values, narrower at the ends."""
    half = max(1, round(0.05 * len(values) / 2))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    first, last = np.maximum(places - half, 0), np.minimum(places + half + 1, len(values))
    return (sums[last] - sums[first]) / (last - first)


def _logged(log_history: Sequence[Mapping[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and finite values logged under `name`, float `(n,)` each."""
    points = np.array([(entry["step"], entry[name]) for entry in log_history if name in entry], np.float64)
    steps, values = points.reshape(-1, 2).T
    known = np.isfinite(values)  # None, of an undefined metric, has become NaN
    return steps[known], values[known]
