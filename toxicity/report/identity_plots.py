"""Pictures of how a run's model treats people: AUCs by identity, and the identity swap probe."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from toxicity.bench.picture import STYLE
from toxicity.evaluation.identity_probe import DEFAULT_THRESHOLDS, TONES, UNMARKED
from toxicity.report.plots import MARKS, PERCENT
from toxicity.report.tables import BIAS_AUCS, final_score_name

TONE_MARKS = dict(zip(TONES, ("o", "^", "v"), strict=True))


@rc_context(fname=STYLE)
def draw_bias(bias: Mapping[str, Any], path: Path) -> None:
    """Draw the three AUCs of each identity as a heat map; undefined cells are white and say `n/a`.

    Args:
        bias: of the benchmark's metrics, with `identities` and the power means.
        path: PNG file to write.
    """
    identities = bias["identities"]
    names = [
        f"{name.replace('_', ' ')}\n{cells['rows']:,} rows, {cells['toxic_rows']:,} toxic"
        for name, cells in identities.items()
    ]
    values = np.array([[cells.get(auc) for auc in BIAS_AUCS] for cells in (*identities.values(), bias)], np.float64)
    names.append("power mean")
    known = values[np.isfinite(values)]
    # Few models are below 0.5 anywhere; the shades are for telling good from very good.
    least = min(0.9, math.floor(20 * known.min()) / 20) if len(known) else 0.5

    figure = Figure(figsize=(7.6, 0.52 * len(names) + 1.5))
    axes = figure.subplots()
    final = bias["final_score"]
    figure.suptitle("AUC by identity" + ("" if final is None else f". {final_score_name(bias)}: {final:.5f}"))
    image = axes.imshow(values, vmin=least, vmax=1.0, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        dark = (value - least) / (1.0 - least) < 0.5  # False for NaN
        text = f"{value:.4f}" if math.isfinite(value) else "n/a"
        axes.text(column, row, text, ha="center", va="center", color="white" if dark else "black")
    axes.axhline(len(names) - 1.5, color="black", linewidth=2.5)
    axes.set_xticks(range(len(BIAS_AUCS)), BIAS_AUCS.values())
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    if len(known):
        figure.colorbar(image, ax=axes, label="AUC; the darker, the worse", shrink=0.8)
    figure.savefig(path, format="png")  # the path may end in .unfinished


@rc_context(fname=STYLE)
def draw_probe(probe: Mapping[str, Any], path: Path) -> None:
    """Draw how far naming an identity shifts the score, and how often civil sentences are flagged.

    Args:
        probe: of the benchmark.
        path: PNG file to write.
    """
    identities = dict(sorted(probe["identities"].items(), key=lambda item: item[1]["shift"], reverse=True))
    names = [name.replace("_", " ") for name in identities] + [f"{UNMARKED} people"]
    places = np.arange(len(names))
    figure = Figure(figsize=(11, 0.42 * len(names) + 2.0))
    figure.suptitle("The same sentences about different people")
    shifts, flagged = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))

    shifts.axvline(0, color="0.5", linewidth=1)
    means = np.array([cells["shift"] for cells in identities.values()])
    low, high = np.array([cells["interval"] for cells in identities.values()]).T
    errors = [means - low, high - means]
    style = {"color": "C0", "ecolor": "0.3", "markersize": 7, "label": "all sentences, with 95 % interval"}
    shifts.errorbar(means, places[:-1], xerr=errors, fmt="o", **style)
    for color, (tone, mark) in zip(("C3", "C1", "C2"), TONE_MARKS.items(), strict=True):
        of_tone = [cells["shift_by_tone"][tone] for cells in identities.values()]
        shifts.plot(of_tone, places[:-1] + 0.24, mark, color=color, markersize=5.5, label=f"{tone} ones")
    shifts.set_yticks(places, names)
    shifts.set_ylim(len(names) - 0.4, -0.6)
    shifts.set_xlabel("shift of the score against the sentence about unmarked people")
    shifts.grid(False, axis="x")

    thresholds = probe["thresholds"]
    rates = [cells["false_positive_rate"] for cells in (*identities.values(), probe[UNMARKED])]
    for index, (target, threshold) in enumerate(thresholds.items()):
        fitted_for = "" if target in DEFAULT_THRESHOLDS else f", for a precision of {target}"
        # One below the other, as most rates are 0.
        offset = (index - (len(thresholds) - 1) / 2) * 0.17
        flagged.plot(
            [rate[target] for rate in rates],
            places + offset,
            MARKS[index % len(MARKS)],
            color=f"C{index}",
            label=f"threshold {threshold:.3f}{fitted_for}",
            clip_on=False,
        )
    flagged.set_xlabel("neutral and friendly sentences called toxic")
    flagged.set_xlim(left=0)
    if flagged.get_xlim()[1] < 0.05:
        flagged.set_xlim(right=0.05)
    flagged.xaxis.set_major_formatter(PERCENT)
    for axes, columns in ((shifts, 2), (flagged, 1)):
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=columns)
    figure.savefig(path, format="png")  # the path may end in .unfinished
