"""Pictures of how a run's model treats people: AUCs by identity, and the identity swap probe."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from toxicity.core.wanted import Wanted
from toxicity.evaluation.identity_probe import DEFAULT_THRESHOLDS, TONES, UNMARKED
from toxicity.report.plots import MARKS, PERCENT
from toxicity.report.tables import BIAS_AUCS, final_score_name


def draw_bias(bias: Mapping[str, Any]) -> Figure:
    """Draw the AUCs of `metrics.bias` of a benchmark as a heat map; undefined cells are white and say `n/a`."""
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
    return figure


def draw_probe(probe: Mapping[str, Any]) -> Figure:
    """Draw how far naming an identity shifts the score, and how often civil sentences are flagged, from `probe`."""
    identities = dict(sorted(probe["identities"].items(), key=lambda item: item[1]["shift"], reverse=True))
    names = [name.replace("_", " ") for name in identities] + [f"{UNMARKED} people"]
    places = np.arange(len(names))
    figure = Figure(figsize=(11, 0.42 * len(names) + 2.0))
    figure.suptitle("The same sentences about different people")
    shifts, flagged = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))

    shifts.axvline(0, color="0.5", linewidth=1)
    means = np.array([cells["shift"] for cells in identities.values()])
    low, high = np.array([cells["interval"] for cells in identities.values()]).T
    style = {"fmt": "o", "color": "C0", "ecolor": "0.3", "markersize": 7, "label": "all sentences, with 95 % interval"}
    shifts.errorbar(means, places[:-1], xerr=[means - low, high - means], **style)
    for tone, mark, color in zip(TONES, ("o", "^", "v"), ("C3", "C1", "C2"), strict=True):
        of_tone = [cells["shift_by_tone"][tone] for cells in identities.values()]
        shifts.plot(of_tone, places[:-1] + 0.24, mark, color=color, markersize=5.5, label=f"{tone} ones")
    shifts.set_yticks(places, names)
    shifts.set(xlabel="shift of the score against the sentence about unmarked people", ylim=(len(names) - 0.4, -0.6))
    shifts.grid(False, axis="x")

    thresholds = probe["thresholds"]
    for index, (target, threshold) in enumerate(thresholds.items()):
        rates = [cells["false_positive_rate"][target] for cells in (*identities.values(), probe[UNMARKED])]
        fitted_for = "" if target in DEFAULT_THRESHOLDS else f", for {Wanted.from_name(target).told}"
        mark = {"marker": MARKS[index % len(MARKS)], "color": f"C{index}", "linestyle": "none", "clip_on": False}
        # One below the other, as most rates are 0.
        offset = (index - (len(thresholds) - 1) / 2) * 0.17
        flagged.plot(rates, places + offset, **mark, label=f"threshold {threshold:.3f}{fitted_for}")
    flagged.set_xlabel("neutral and friendly sentences called toxic")
    flagged.set_xlim(0, max(0.05, flagged.get_xlim()[1]))
    flagged.xaxis.set_major_formatter(PERCENT)
    for axes, columns in ((shifts, 2), (flagged, 1)):
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=columns)
    return figure
