"""The runs as a picture that says the same in black and white."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from toxicity.bench.results import Result
from toxicity.bench.runs import PHASES
from toxicity.core.console import h_mm_ss

# Greys far enough apart for a bad printer, each with a hatching of its own.
FILLS = (
    ("0.35", ""),
    ("0.9", "///"),
    ("0.65", "..."),
    ("1.0", "xxx"),
    ("0.8", "\\\\\\"),
    ("0.5", "++"),
    ("1.0", "---"),
)


def draw(groups: Sequence[tuple[str, Sequence[Result]]], path: Path) -> None:
    """Draw hours per phase and the AUC with its standard error, a row of panels for each protocol.

    Args:
        groups: title and results of each protocol.
        path: PNG file to write.
    """
    heights = [1.3 + 0.62 * max(len(results), 2) for _, results in groups]
    figure = Figure(figsize=(11, sum(heights) + 0.2), layout="constrained")
    rows = figure.subfigures(len(groups), 1, height_ratios=heights, squeeze=False)[:, 0]
    for row, (title, results) in zip(rows, groups, strict=True):
        row.suptitle(title, fontsize=9)
        times, aucs = row.subplots(1, 2, width_ratios=(2, 1))
        _draw_times(times, results)
        _draw_aucs(aucs, results)
    figure.savefig(path, dpi=130)


def time_unit(longest: float) -> tuple[int, str]:
    """Seconds and name of the unit for an axis of durations up to `longest` seconds."""
    return next(
        (size, unit)
        for size, unit in ((3600, "hours"), (60, "minutes"), (1, "seconds"))
        if longest >= size or size == 1
    )


def _draw_times(axes: Axes, results: Sequence[Result]) -> None:
    thickness = 0.8 / len(results)
    longest = max(seconds for result in results for seconds in result.seconds.values())
    size, unit = time_unit(longest)
    for index, result in enumerate(results):
        grey, hatch = FILLS[index % len(FILLS)]
        phases = [phase for phase in PHASES if phase in result.seconds]
        places = [PHASES.index(phase) + (index - (len(results) - 1) / 2) * thickness for phase in phases]
        bars = axes.barh(
            places,
            [result.seconds[phase] / size for phase in phases],
            thickness * 0.9,
            color=grey,
            hatch=hatch,
            edgecolor="black",
            linewidth=0.8,
            label=result.name,
        )
        if "tokenizer" not in phases:
            place = (index - (len(results) - 1) / 2) * thickness
            axes.annotate("from the cache", (0, place), (4, 0), textcoords="offset points", va="center", fontsize=8)
        axes.bar_label(bars, [h_mm_ss(result.seconds[phase]) for phase in phases], padding=3, fontsize=8)
    axes.set_yticks(range(len(PHASES)), PHASES)
    axes.set_ylim(len(PHASES) - 0.5, -0.5)
    axes.set_xlabel(unit)
    axes.margins(x=0.12)
    axes.legend(fontsize=8, loc="best")
    axes.spines[["top", "right"]].set_visible(False)


def _draw_aucs(axes: Axes, results: Sequence[Result]) -> None:
    known = [(index, result) for index, result in enumerate(results) if result.auc is not None]
    for index, result in known:
        axes.errorbar(result.auc, index, xerr=result.auc_error, fmt="o", color="black", capsize=4)
        axes.annotate(
            f"{result.auc:.5f}", (result.auc, index), (0, 7), textcoords="offset points", ha="center", fontsize=8
        )
    axes.set_yticks(range(len(results)), [f"{result.label}\n{result.epochs:g} ep." for result in results], fontsize=8)
    axes.set_ylim(len(results) - 0.4, -0.7)
    axes.set_xlabel("AUC, with its standard error where known")
    axes.margins(x=0.2)
    axes.spines[["top", "right"]].set_visible(False)
