"""Whether thresholds and calibration hold on other comments, over redraws of the scores of a run.

    make bench-calibration [MODEL=runs/sample]

The scores of `report/predictions.parquet` are drawn again and again into comments that thresholds and calibration are
fitted to, and others that these are measured on, which have noise of their own. Fitted are 1,000, 2,000 and 8,000
comments, or half of all where that is fewer. Beside the rule of this package stands the one before: the lowest
threshold with the wanted precision on the comments fitted. A target that is not certified flags nothing, and so loses
all of its recall; it is no threshold that could miss the target.

The last line of standard output is JSON. Its figures are the worst over the sizes: `reached_0.9` is the share of the
thresholds that keep a precision of 0.9 or more, `recall_lost_0.9` the mean recall lost against the rule before,
`log_loss_change_mean` the mean change by calibration, `better_share` the share of the redraws with any calibration in
which it made the log loss smaller (None without any), and `largest_identity_shift` and `auc` are those of the run.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
from scipy.special import logit

from toxicity.core.markdown import markdown_table
from toxicity.core.run_folder import RunFolder
from toxicity.core.wanted import PRECISION, Wanted
from toxicity.evaluation.calibration_maps import RAW, apply_map, choose_map
from toxicity.evaluation.calibration_metrics import log_loss
from toxicity.evaluation.thresholds import choose_threshold, precision_and_recall

SIZES = (1000, 2000, 8000)
TARGETS = (0.8, 0.9, 0.95)
# Of the rule before.
MINIMUM_FLAGGED_ROWS = 20


def main() -> None:
    """Run the benchmark and print its table and its JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("runs/sample"), help="folder of a run")
    parser.add_argument("--redraws", type=int, default=200, help="of each size")
    arguments = parser.parse_args()
    run = RunFolder(arguments.model)
    logits, toxic = scores_of(run)
    row = json.loads(run.benchmark.read_text(encoding="utf-8"))
    sizes = {size: redraw(logits, toxic, size, arguments.redraws) for size in sizes_for(len(logits))}
    print(f"{arguments.redraws} redraws of {len(logits):,} scores of {arguments.model}; held out are all others\n")
    print(_table(sizes) + "\n")
    shift = (row.get("probe") or {}).get("largest_shift")
    result = worst(sizes.values()) | {
        "largest_identity_shift": shift and abs(shift[1]),
        "auc": row["metrics"]["auc"],
        "sizes": sizes,
    }
    print(json.dumps(result))


def scores_of(run: RunFolder) -> tuple[np.ndarray, np.ndarray]:
    """Logits, float64, and labels, bool, of the main label in a run's predictions, of the rows that have one."""
    table = pyarrow.parquet.read_table(run.report / "predictions.parquet", columns=["label", "score"]).drop_null()
    return logit(table["score"].to_numpy()), table["label"].to_numpy() > 0


def sizes_for(rows: int) -> list[int]:
    """The numbers of comments to fit to, at most half of the rows."""
    return sorted({min(size, rows // 2) for size in SIZES})


def redraw(logits: np.ndarray, toxic: np.ndarray, size: int, redraws: int) -> dict[str, Any]:
    """Means over redraws, for this number of rows fitted, with the names of the JSON line."""
    rng = np.random.default_rng(size)
    found: dict[str, list[float]] = {}
    for number in range(redraws):
        order = rng.permutation(len(logits))
        fitted, held_out = order[:size], order[size:]
        for target in TARGETS:
            before = best_point(logits[fitted], toxic[fitted], target)
            after = choose_threshold(logits[fitted], toxic[fitted], Wanted(PRECISION, target)).threshold
            measured = {
                name: _measured(logits[held_out], toxic[held_out], threshold)
                for name, threshold in (("before", before), ("after", after))
            }
            for name, on_others in measured.items():
                if on_others["precision"] is not None:
                    found.setdefault(f"{name}_{target}", []).append(on_others["precision"] >= target)
            found.setdefault(f"certified_{target}", []).append(after is not None)
            found.setdefault(f"recall_lost_{target}", []).append(
                measured["before"]["recall"] - measured["after"]["recall"]
            )
        chosen = choose_map(logits[fitted], toxic[fitted], number)
        mapped = apply_map(chosen.method, chosen.parameters, logits[held_out])
        change = log_loss(mapped, toxic[held_out]) - log_loss(logits[held_out], toxic[held_out])
        found.setdefault("log_loss_change_mean", []).append(change)
        found.setdefault("calibrated", []).append(chosen.method != RAW)
        if chosen.method != RAW:
            found.setdefault("better_share", []).append(change < 0)
    means = {name: float(np.mean(values)) for name, values in found.items()}
    reached = {f"reached_{target}": means.pop(f"after_{target}", None) for target in TARGETS}
    reached |= {f"reached_before_{target}": means.pop(f"before_{target}", None) for target in TARGETS}
    return {"held_out": len(logits) - size, **reached, "better_share": None, **means}


def best_point(logits: np.ndarray, toxic: np.ndarray, target: float) -> float | None:
    """The rule before: the lowest threshold that flags 20 rows or more with that precision."""
    order = np.argsort(-logits, kind="stable")
    flagged = np.arange(1, len(logits) + 1)
    reached = (np.cumsum(toxic[order]) / flagged >= target) & (flagged >= MINIMUM_FLAGGED_ROWS)
    return float(logits[order][np.flatnonzero(reached)[-1]]) if reached.any() else None


def worst(sizes: Any) -> dict[str, float | None]:
    """The worst figures over the sizes, by the names of the JSON line."""
    lowest = (*(f"reached_{target}" for target in TARGETS), "better_share")
    known = {
        name: [figures[name] for figures in sizes if figures[name] is not None]
        for name in (*lowest, "recall_lost_0.9", "log_loss_change_mean")
    }
    return {name: (min if name in lowest else max)(values, default=None) for name, values in known.items()}


def _measured(logits: np.ndarray, toxic: np.ndarray, threshold: float | None) -> Mapping[str, float | None]:
    return precision_and_recall(logits, toxic, np.inf if threshold is None else threshold)


def _table(sizes: Mapping[int, Mapping[str, Any]]) -> str:
    header = ("Fitted", "Held out", "Wanted", "Kept before", "Kept now", "Certified", "Recall lost")
    rows = [
        (
            f"{size:,}",
            f"{found['held_out']:,}",
            f"{target:g}",
            *(_share(found[f"{name}_{target}"]) for name in ("reached_before", "reached", "certified")),
            f"{found[f'recall_lost_{target}']:.3f}",
        )
        for size, found in sizes.items()
        for target in TARGETS
    ]
    changes = [
        (
            f"{size:,}",
            _share(found["calibrated"]),
            _share(found["better_share"]),
            f"{found['log_loss_change_mean']:+.5f}",
        )
        for size, found in sizes.items()
    ]
    calibration = markdown_table(("Fitted", "Calibrated", "Better where it was", "Change of log loss"), changes)
    return f"{markdown_table(header, rows)}\n\n{calibration}"


def _share(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


if __name__ == "__main__":
    main()
