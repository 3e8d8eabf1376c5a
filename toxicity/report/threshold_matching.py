"""Old scores against new ones, as a picture, and the thresholds that match as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from toxicity.bench.picture import STYLE
from toxicity.core.files import write_text, written_whole

BINS = 50


def write_matches(
    folder: Path, results: Mapping[str, Mapping[str, Any]], scores: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> None:
    """Write `thresholds.json` and a picture of each attribute, `TOXICITY.png`, into a folder.

    Args:
        folder: made if it is not there.
        results: by attribute, as `evaluation.threshold_matching.match_thresholds` returns them.
        scores: by attribute, the old and the new ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, (old, new) in scores.items():
        with rc_context(fname=STYLE), written_whole(folder / f"{name}.png") as unfinished:
            draw_match(name, old, new, results[name]).savefig(unfinished, format="png")
    write_text(folder / "thresholds.json", json.dumps(results, indent=2) + "\n")


def draw_match(name: str, old: np.ndarray, new: np.ndarray, result: Mapping[str, Any]) -> Figure:
    """Draw how many comments have which old and new score, and each old threshold with the new one that matches it."""
    figure = Figure(figsize=(7, 6))
    axes = figure.subplots()
    spearman = result["spearman"]
    told = "" if spearman is None else f", rank correlation {spearman:.2f}"
    figure.suptitle(f"{name}: {len(old):,} comments{told}")
    axes.grid(False)
    # From below 1, which would be white.
    *_, squares = axes.hist2d(old, new, bins=BINS, range=((0, 1), (0, 1)), norm=LogNorm(vmin=0.2), cmap="Greys")
    squares.set_clim(vmax=max(squares.get_clim()[1], 2))
    figure.colorbar(squares, label="comments").ax.set_ylim(bottom=1)
    matched = {float(of): found["threshold"] for of, found in result["thresholds"].items() if "threshold" in found}
    for number, (of_old, of_new) in enumerate(matched.items()):
        line = {"color": f"C{number}", "linestyle": ("-", "--", ":")[number % 3]}
        # Above and to the right of its corner, both thresholds flag a comment.
        axes.plot([of_old, of_old, 1], [1, of_new, of_new], **line, label=f"{of_old:g} → {of_new}")
    axes.set(xlabel="old score", ylabel="new score", xlim=(0, 1), ylim=(0, 1))
    if matched:
        figure.legend(loc="outside lower center", ncols=min(len(matched), 4), title="old threshold → new threshold")
    return figure
