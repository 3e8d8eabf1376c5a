"""The runs beside each other as a picture: time of each phase, and AUC."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from toxicity.bench.results import Result
from toxicity.bench.runs import PHASES
from toxicity.core.console import h_mm_ss

# As many as fit beside each other.
TITLE_CHARACTERS = 132

# Of every picture this package draws, whatever a user's own matplotlibrc says.
STYLE = Path(__file__).with_name("toxicity.mplstyle")


@rc_context(fname=STYLE)
def draw(groups: Sequence[tuple[str, Sequence[Result]]], path: Path) -> None:
    """Write a PNG with the time per phase and the AUC with its standard error, a row of panels for each protocol.

    `groups` holds the title and the results of each protocol.
    """
    heights = [1.3 + 0.62 * max(len(results), 2) for _, results in groups]
    figure = Figure(figsize=(11, sum(heights) + 0.2))
    rows = figure.subfigures(len(groups), 1, height_ratios=heights, squeeze=False)[:, 0]
    for row, (title, results) in zip(rows, groups, strict=True):
        # Names are text, whatever dollars are in them.
        row.suptitle(textwrap.fill(title, TITLE_CHARACTERS), fontsize=9, parse_math=False)
        times, aucs = row.subplots(1, 2, width_ratios=(2, 1))
        _draw_times(times, results)
        _draw_aucs(aucs, results)
    figure.savefig(path)


def time_unit(longest: float) -> tuple[int, str]:
    """Seconds and name of the unit for an axis of durations up to `longest` seconds."""
    if longest >= 3600:
        return 3600, "hours"
    return (60, "minutes") if longest >= 60 else (1, "seconds")


def _draw_times(axes: Axes, results: Sequence[Result]) -> None:
    thickness = 0.8 / len(results)
    size, unit = time_unit(max(seconds for result in results for seconds in result.seconds.values()))
    for index, result in enumerate(results):
        offset = (index - (len(results) - 1) / 2) * thickness
        places = [PHASES.index(phase) + offset for phase in result.seconds]
        lengths = [seconds / size for seconds in result.seconds.values()]
        bars = axes.barh(places, lengths, thickness * 0.9, color=f"C{index}", label=result.name)
        if "tokenizer" not in result.seconds:
            axes.annotate("from the cache", (0, offset), (4, 0), textcoords="offset points", va="center", fontsize=8)
        axes.bar_label(bars, [*map(h_mm_ss, result.seconds.values())], padding=3, fontsize=8)
    axes.set_yticks(range(len(PHASES)), PHASES)
    axes.set(xlabel=unit, ylim=(len(PHASES) - 0.5, -0.5))
    axes.margins(x=0.12)
    axes.grid(False, axis="y")
    axes.legend(fontsize=8, loc="best")


def _draw_aucs(axes: Axes, results: Sequence[Result]) -> None:
    for index, result in enumerate(results):
        if result.auc is None:
            continue
        axes.errorbar(result.auc, index, xerr=result.auc_error, fmt="o", color=f"C{index}", ecolor="0.3")
        axes.annotate(
            f"{result.auc:.5f}", (result.auc, index), (0, 7), textcoords="offset points", ha="center", fontsize=8
        )
    axes.set_yticks(range(len(results)), [f"{result.label}\n{result.epochs:g} ep." for result in results], fontsize=8)
    of_one = all(result.labels == 1 for result in results)
    meaning = "AUC, with its standard error where known" if of_one else "AUC of the main label ± standard error"
    axes.set(xlabel=meaning, ylim=(len(results) - 0.4, -0.7))
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.margins(x=0.2)
