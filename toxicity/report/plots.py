"""The pictures of a run. Greys, hatching and shapes of marks only, so that they say the same in black and white."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from scipy.special import expit

from toxicity.bench.picture import FILLS, time_unit
from toxicity.bench.runs import PHASES
from toxicity.core.console import h_mm_ss
from toxicity.evaluation.calibration import precision_and_recall
from toxicity.evaluation.calibration_metrics import BINS, expected_calibration_error, reliability_bins
from toxicity.evaluation.identity_probe import DEFAULT_THRESHOLDS, TONES, UNMARKED
from toxicity.report.curves import precision_recall_points, roc_points, smoothed, thinned
from toxicity.report.tables import BIAS_AUCS, final_score_name

DPI = 130
PERCENT = FuncFormatter(lambda share, _: f"{100 * share:g} %")
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
TONE_MARKS = dict(zip(TONES, ("o", "^", "v"), strict=True))


def draw_roc(toxic: np.ndarray, logits: np.ndarray, metrics: Mapping[str, Any], path: Path) -> None:
    """Draw the ROC curve, whole and with the false-positive rate on a logarithmic scale.

    Args:
        toxic: bool `(rows,)`, both classes among the rows.
        logits: float `(rows,)`, finite.
        metrics: of the benchmark: `auc`, and `auc_interval` where it is known.
        path: PNG file to write.
    """
    false_positives, true_positives = roc_points(toxic, logits)
    figure = Figure(figsize=(10, 5), layout="constrained")
    figure.suptitle(f"ROC curve, AUC {auc_text(metrics)}", fontsize=12)
    whole, logarithmic = figure.subplots(1, 2, sharey=True)
    for axes in (whole, logarithmic):
        axes.plot(false_positives, true_positives, color="black", linewidth=1.6)
        chance = np.geomspace(1e-9, 1, 200)
        axes.plot(chance, chance, color="0.55", linestyle="--", linewidth=1, label="chance")
        axes.grid(color="0.9")
    whole.set_xlabel("false-positive rate: civil comments called toxic")
    logarithmic.set_xlabel("the same, logarithmic")
    whole.set_ylabel("true-positive rate: toxic comments found")
    whole.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    whole.legend(loc="lower right", fontsize=9)
    logarithmic.set_xscale("log")
    # From where a single civil comment is flagged, and a decade at least.
    logarithmic.set_xlim(float(np.clip(0.5 / np.sum(~toxic), 1e-5, 0.1)), 1)
    logarithmic.xaxis.set_major_formatter(PERCENT)
    logarithmic.xaxis.set_minor_formatter(NullFormatter())
    _save(figure, [whole, logarithmic], path)


def draw_precision_recall(
    toxic: np.ndarray,
    logits: np.ndarray,
    metrics: Mapping[str, Any],
    calibration: Mapping[str, Any] | None,
    path: Path,
) -> None:
    """Draw the precision-recall curve, with the chosen thresholds on it.

    Args:
        toxic: bool `(rows,)`, at least one True.
        logits: float `(rows,)`, finite.
        metrics: of the benchmark: `average_precision` where it is known.
        calibration: of the benchmark; its thresholds that can be reached are marked where they lie on the curve of
            all rows.
        path: PNG file to write.
    """
    recall, precision = precision_recall_points(toxic, logits)
    scores = expit(logits.astype(np.float64))
    figure = Figure(figsize=(6.6, 6), layout="constrained")
    axes = figure.subplots()
    known = metrics.get("average_precision")
    average = "" if known is None else f", average precision {known:.5f}"
    figure.suptitle(f"Precision and recall{average}", fontsize=12)
    # A step, as between two thresholds there is nothing: a slope would promise precision that no threshold gives.
    axes.plot(recall, precision, color="black", linewidth=1.6, drawstyle="steps-post")
    share = float(np.mean(toxic))
    axes.axhline(share, color="0.55", linestyle="--", linewidth=1, label=f"chance: {100 * share:.1f} % are toxic")
    reached = [row for row in (calibration or {}).get("thresholds", []) if row.get("pipeline_threshold") is not None]
    for index, row in enumerate(reached):
        place = precision_and_recall(scores, toxic, row["pipeline_threshold"])
        if place["precision"] is not None:
            axes.plot(
                place["recall"],
                place["precision"],
                MARKS[index % len(MARKS)],
                markersize=10,
                markerfacecolor="white",
                markeredgecolor="black",
                markeredgewidth=1.6,
                linestyle="none",
                clip_on=False,
                label=f"threshold {row['threshold']:.3f}, for a precision of {row['precision_target']:g}",
            )
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
    axes.set_xlabel("recall: share of the toxic comments that are called toxic")
    axes.set_ylabel("precision: share of the comments called toxic that are")
    axes.grid(color="0.9")
    # Under the axes, where no curve goes.
    figure.legend(loc="outside lower center", fontsize=9, ncols=1 if len(reached) < 2 else 2)
    _save(figure, [axes], path)


def draw_reliability(toxic: np.ndarray, logits: np.ndarray, temperature: float | None, path: Path) -> None:
    """Draw what share of the comments of a score are toxic, and how many there are, before and after the temperature.

    Args:
        toxic: bool `(rows,)`, at least one row.
        logits: float `(rows,)`, finite.
        temperature: what the logits are divided by, None where it was not fitted.
        path: PNG file to write.
    """
    drawn = [("scores", 1.0)] if temperature is None else [("before", 1.0), ("after", temperature)]
    figure = Figure(figsize=(6.6, 7.4), layout="constrained")
    of_which = "" if temperature is None else ", on comments that the temperature was not fitted on"
    figure.suptitle(f"Reliability of the scores{of_which}", fontsize=11)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color="0.7", linewidth=1, label="what a score says")
    width = 0.8 / BINS / len(drawn)
    for index, (name, divisor) in enumerate(drawn):
        bins = reliability_bins(logits / divisor, toxic)
        error = expected_calibration_error(logits / divisor, toxic)
        fitted = "" if divisor == 1.0 else f", temperature {divisor:.3f}"
        upper.plot(
            *(bins.mean_score, bins.toxic_share, "s-" if index else "o--"),
            color="black" if index else "0.45",
            markerfacecolor="black" if index else "white",
            linewidth=1.4,
            clip_on=False,
            label=f"{name}{fitted}: expected calibration error {error:.4f}",
        )
        # Filled or not as the marks above.
        grey, hatch = FILLS[1 - index]
        # A mean of 1.0 is in the last bin.
        centres = (np.minimum(np.floor(bins.mean_score * BINS), BINS - 1) + 0.5) / BINS
        places = centres + (index - (len(drawn) - 1) / 2) * width
        lower.bar(places, bins.rows / len(toxic), width, color=grey, hatch=hatch, edgecolor="black", linewidth=0.8)
    upper.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    upper.set_ylabel("share of the comments that are toxic")
    upper.grid(color="0.9")
    lower.set_yscale("log")
    # A bin of a single row is to be seen.
    lower.set_ylim(0.6 / len(toxic), 1.3)
    lower.set_ylabel("share of all comments")
    lower.yaxis.set_major_formatter(PERCENT)
    lower.yaxis.set_minor_formatter(NullFormatter())
    lower.set_xlabel("score")
    figure.legend(loc="outside lower center", fontsize=9)
    _save(figure, [upper, lower], path)


def draw_bias(bias: Mapping[str, Any], path: Path) -> None:
    """Draw the three AUCs of each identity as a heat map; hatched cells are not defined.

    Args:
        bias: of the benchmark's metrics, with `identities` and the power means.
        path: PNG file to write.
    """
    identities = bias["identities"]
    names = [
        f"{name.replace('_', ' ')}\n{cells['rows']:,} rows, {cells['toxic_rows']:,} toxic"
        for name, cells in identities.items()
    ]
    cells = [[row[column] for column in BIAS_AUCS] for row in identities.values()]
    names.append("power mean")
    cells.append([bias.get(column) for column in BIAS_AUCS])
    values = np.array(cells, dtype=np.float64)
    known = values[np.isfinite(values)]
    # Few models are below 0.5 anywhere; the shades are for telling good from very good.
    least = min(0.9, math.floor(20 * known.min()) / 20) if len(known) else 0.5

    figure = Figure(figsize=(7.6, 0.52 * len(names) + 1.5), layout="constrained")
    axes = figure.subplots()
    final = bias["final_score"]
    title = "AUC by identity" if final is None else f"AUC by identity. {final_score_name(bias)}: {final:.5f}"
    figure.suptitle(title, fontsize=11)
    image = axes.imshow(values, cmap="gray", vmin=least, vmax=1.0, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if math.isfinite(value):
            dark = (value - least) / (1.0 - least) < 0.5
            axes.text(column, row, f"{value:.4f}", ha="center", va="center", color="white" if dark else "black")
        else:
            axes.fill_between([column - 0.5, column + 0.5], row - 0.5, row + 0.5, facecolor="white", hatch="///")
            axes.text(
                *(column, row, "n/a"),
                ha="center",
                va="center",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 2},
            )
    axes.axhline(len(names) - 1.5, color="black", linewidth=2.5)
    axes.set_xticks(range(len(BIAS_AUCS)), BIAS_AUCS.values())
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.set_xticks(np.arange(0.5, len(BIAS_AUCS) - 1), minor=True)
    axes.set_yticks(np.arange(0.5, len(names) - 1), minor=True)
    axes.grid(which="minor", color="0.75", linewidth=0.6)
    axes.tick_params(which="both", length=0)
    if len(known):
        figure.colorbar(image, ax=axes, label="AUC; the darker, the worse", shrink=0.8)
    _save(figure, [], path)


def losses_logged(log_history: Sequence[Mapping[str, Any]]) -> bool:
    """Whether there is a loss to draw: a run shorter than its `logging_steps` logs none."""
    return len(_logged(log_history, "loss")[0]) > 0


def draw_training(log_history: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw loss and learning rate over the steps, and the AUC where there were evaluations on the way.

    Args:
        log_history: of `trainer.state`, with a loss at least.
        path: PNG file to write.
    """
    steps, losses = _logged(log_history, "loss")
    evaluated = {name: _logged(log_history, f"eval_{name}") for name in ("loss", "auc")}
    panels = 3 if len(evaluated["auc"][0]) else 2
    figure = Figure(figsize=(8, 2.4 * panels + 0.8), layout="constrained")
    figure.suptitle("Training", fontsize=12)
    upper, *others = figure.subplots(panels, 1, sharex=True, height_ratios=(2, 1, 1)[:panels])
    few = {"marker": "o", "markersize": 4} if len(steps) < 30 else {}
    upper.plot(*thinned(steps, losses), color="0.7", linewidth=1, label="loss", **few)
    if len(steps) >= 5:
        upper.plot(*thinned(steps, smoothed(losses)), color="black", linewidth=1.8, label="loss, smoothed")
    if len(evaluated["loss"][0]):
        upper.plot(*evaluated["loss"], "s--", color="black", markerfacecolor="white", label="loss of the evaluation")
    # A single spike would otherwise press the rest of the curve flat.
    upper.set_ylim(
        0, 1.1 * max(np.quantile(losses, 0.98, method="higher"), *smoothed(losses), *evaluated["loss"][1], 1e-9)
    )
    upper.set_ylabel("loss")
    upper.legend(fontsize=9)
    others[0].plot(*thinned(*_logged(log_history, "learning_rate")), color="black", linewidth=1.6, **few)
    others[0].set_ylabel("learning rate")
    others[0].ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    others[0].set_ylim(bottom=0)
    if panels == 3:
        others[1].plot(*evaluated["auc"], "s--", color="black", markerfacecolor="white")
        others[1].set_ylabel("AUC of the evaluation")
        others[1].ticklabel_format(axis="y", useOffset=False)
    others[-1].set_xlabel("step")
    others[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    others[-1].xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    for axes in (upper, *others):
        axes.grid(color="0.9")
    _save(figure, [upper, *others], path)


def draw_timing(benchmark: Mapping[str, Any], path: Path) -> None:
    """Draw what each phase took, with its rows a second.

    Args:
        benchmark: with `machine`, `timing` and `throughput`.
        path: PNG file to write.
    """
    timing = benchmark["timing"]
    seconds = [timing[f"{phase}_seconds"] for phase in PHASES]
    size, unit = time_unit(max(seconds))
    figure = Figure(figsize=(8, 2.6), layout="constrained")
    axes = figure.subplots()
    figure.suptitle(f"Time on {benchmark['machine']['label']}", fontsize=12)
    for place, (phase, taken) in enumerate(zip(PHASES, seconds, strict=True)):
        grey, hatch = FILLS[place]
        axes.barh(place, taken / size, 0.65, color=grey, hatch=hatch, edgecolor="black", linewidth=0.8)
        remark = ""
        if phase == "tokenizer" and timing["tokenizer_cache_hit"]:
            remark = ", from the cache"
        elif phase == "training" and timing.get("resumed"):
            remark = ", resumed: its last part"
        rate = benchmark["throughput"][f"{phase}_rows_per_second"]
        speed = f", {rate:,.{int(rate < 10)}f} rows/s" if rate else ""
        text = f"{h_mm_ss(taken)}{speed}{remark}"
        axes.annotate(text, (taken / size, place), (5, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_yticks(range(len(PHASES)), PHASES)
    axes.set_ylim(len(PHASES) - 0.5, -0.5)
    # Room for the text behind the longest bar.
    axes.set_xlim(0, 1.45 * max(max(seconds) / size, 1e-9))
    axes.set_xlabel(unit)
    _save(figure, [axes], path)


def draw_probe(probe: Mapping[str, Any], path: Path) -> None:
    """Draw by how much naming an identity shifts the score, and how often sentences without malice are flagged.

    Args:
        probe: of the benchmark.
        path: PNG file to write.
    """
    identities = sorted(probe["identities"].items(), key=lambda item: item[1]["shift"], reverse=True)
    rates = {name: cells["false_positive_rate"] for name, cells in identities}
    rates[f"{UNMARKED} people"] = probe[UNMARKED]["false_positive_rate"]
    places = {name: place for place, name in enumerate(rates)}
    figure = Figure(figsize=(11, 0.42 * len(places) + 2.0), layout="constrained")
    figure.suptitle("The same sentences about different people", fontsize=12)
    shifts, flagged = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))

    shifts.axvline(0, color="0.55", linewidth=1)
    for name, cells in identities:
        low, high = cells["interval"]
        shifts.errorbar(
            *(cells["shift"], places[name]),
            xerr=[[cells["shift"] - low], [high - cells["shift"]]],
            fmt="o",
            color="black",
            capsize=4,
            markersize=7,
            label="all sentences, with 95 % interval" if places[name] == 0 else None,
        )
        for tone, mark in TONE_MARKS.items():
            shifts.plot(
                *(cells["shift_by_tone"][tone], places[name] + 0.24),
                mark,
                color="0.35",
                markerfacecolor="white",
                markersize=5,
                label=f"{tone} ones" if places[name] == 0 else None,
            )
    shifts.set_yticks(list(places.values()), [name.replace("_", " ") for name in places])
    shifts.set_ylim(len(places) - 0.4, -0.6)
    shifts.set_xlabel("shift of the score against the sentence about unmarked people")
    shifts.grid(axis="y", color="0.9")

    thresholds = probe["thresholds"]
    for index, (target, threshold) in enumerate(thresholds.items()):
        fitted_for = "" if target in DEFAULT_THRESHOLDS else f", for a precision of {target}"
        # Side by side in height, as most of them are 0.
        offset = (index - (len(thresholds) - 1) / 2) * 0.17
        flagged.plot(
            [rates[name][target] for name in places],
            [place + offset for place in places.values()],
            MARKS[index % len(MARKS)],
            linestyle="none",
            markersize=6,
            markerfacecolor="white" if index % 2 else "black",
            markeredgecolor="black",
            label=f"threshold {threshold:.3f}{fitted_for}",
            clip_on=False,
        )
    flagged.set_xlabel("neutral and friendly sentences called toxic")
    flagged.set_xlim(left=0)
    if flagged.get_xlim()[1] < 0.05:
        flagged.set_xlim(right=0.05)
    flagged.xaxis.set_major_formatter(PERCENT)
    flagged.grid(color="0.9")
    shifts.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), fontsize=9, ncols=2, frameon=False)
    flagged.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), fontsize=9, ncols=1, frameon=False)
    _save(figure, [shifts, flagged], path)


def auc_text(metrics: Mapping[str, Any]) -> str:
    """`0.98123 (95 % interval 0.97913 to 0.98333)`, as far as it is known."""
    if metrics.get("auc") is None:
        return "undefined"
    interval = metrics.get("auc_interval")
    known = "" if interval is None else f" (95 % interval {interval[0]:.5f} to {interval[1]:.5f})"
    return f"{metrics['auc']:.5f}{known}"


def _logged(log_history: Sequence[Mapping[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of what was logged under `name`, float `(n,)` each, without those that are no numbers."""
    known = [
        (entry["step"], entry[name])
        for entry in log_history
        if isinstance(entry.get(name), int | float) and math.isfinite(entry[name])
    ]
    points = np.array(known, dtype=np.float64).reshape(-1, 2)
    return points[:, 0], points[:, 1]


def _save(figure: Figure, panels: Sequence[Axes], path: Path) -> None:
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    # The name it is written under for the time being need not end in .png.
    figure.savefig(path, dpi=DPI, format="png")
