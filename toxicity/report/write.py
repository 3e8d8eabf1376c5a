"""Write a run's folder `report` (benchmark, predictions, pictures and the report itself), and print its summary."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from datasets import Dataset
from matplotlib import rc_context
from matplotlib.figure import Figure
from scipy.special import expit

from toxicity.bench.picture import STYLE
from toxicity.bench.runs import benchmark_table
from toxicity.core.console import printable
from toxicity.core.disk import is_full_disk
from toxicity.core.errors import one_line
from toxicity.core.files import write_text, written_whole
from toxicity.core.markdown import markdown_table
from toxicity.core.run_folder import RunFolder
from toxicity.core.schema import ID, TEXT
from toxicity.data.sources import labels_of
from toxicity.report import identity_plots, plots
from toxicity.report.figures import FIGURES
from toxicity.report.page import Comment, report_html, report_markdown
from toxicity.training.evaluate import Evaluation

logger = logging.getLogger(__name__)

# Under each heading of the report.
SHOWN_COMMENTS = 5


def write_report(
    output_dir: str | Path,
    benchmark: dict[str, Any],
    validation: Dataset,
    evaluation: Evaluation,
    log_history: Sequence[Mapping[str, Any]],
) -> None:
    """Write the folder `report`, then print the row, two comments and, as the last line, the JSON.

    Args:
        output_dir: folder of the run.
        benchmark: of `build_benchmark`.
        validation: rows with `id`, `text` and `target`.
        evaluation: of the same rows.
        log_history: of `trainer.state`.
    """
    run = RunFolder(output_dir)
    run.report.mkdir(parents=True, exist_ok=True)
    # In float64: in float32 the highest scores would all round to 1, and the file would give another AUC.
    scores = expit(evaluation.logits.astype(np.float64))
    toxic = labels_of(validation) > 0
    ids = validation.select_columns(ID).with_format("arrow")[:][ID]
    predictions = pa.table({"id": ids, "label": toxic.astype(np.int8), "score": scores})
    with written_whole(run.report / "predictions.parquet") as unfinished:
        pyarrow.parquet.write_table(predictions, unfinished)
    write_text(run.benchmark, json.dumps(benchmark, indent=2) + "\n")
    pictures = _draw(run.report, _drawings(benchmark, toxic, evaluation, log_history))
    comments = _comments(validation, toxic, scores)
    write_text(run.report / "report.md", report_markdown(benchmark, pictures, comments))
    write_text(run.report / "report.html", report_html(benchmark, pictures, comments))

    print(f"\n{markdown_table(*benchmark_table([benchmark]))}\n")
    for name, row in (("Most", scores.argmax()), ("Least", scores.argmin())):
        print(f"{name} toxic ({scores[row]:.6f}): {printable(validation[int(row)][TEXT])}")
    print(f"\nEverything else is in {run}\n")
    print(json.dumps(benchmark), flush=True)


def _drawings(
    benchmark: Mapping[str, Any], toxic: np.ndarray, evaluation: Evaluation, log_history: Sequence[Mapping[str, Any]]
) -> dict[str, Callable[[], Figure]]:
    """The pictures that the measurements allow: file name to the function that draws it."""
    metrics, calibration, probe = benchmark["metrics"], benchmark.get("calibration"), benchmark.get("probe")
    logits, held_out = evaluation.logits, evaluation.calibration.held_out
    drawings = {"timing.png": partial(plots.draw_timing, benchmark)}
    if plots.losses_logged(log_history):
        drawings["training.png"] = partial(plots.draw_training, log_history)
    if np.isfinite(logits).all():
        judged = slice(None) if held_out is None else held_out
        drawings["reliability.png"] = partial(
            plots.draw_reliability, toxic[judged], logits[judged], evaluation.calibration
        )
        if toxic.any() and not toxic.all():
            drawings["roc.png"] = partial(plots.draw_roc, toxic, logits, metrics)
            drawings["precision_recall.png"] = partial(plots.draw_precision_recall, toxic, logits, metrics, calibration)
    if metrics.get("bias"):
        drawings["bias.png"] = partial(identity_plots.draw_bias, metrics["bias"])
    if probe:
        drawings["probe.png"] = partial(identity_plots.draw_probe, probe)
    return drawings


def _draw(folder: Path, drawings: Mapping[str, Callable[[], Figure]]) -> dict[str, bytes]:
    """Draw the pictures, delete those of an earlier run that are not drawn now, and return the PNG files by name."""
    drawn = {}
    for name in FIGURES:
        path = folder / name
        path.unlink(missing_ok=True)
        if name not in drawings:
            continue
        try:
            with rc_context(fname=STYLE), written_whole(path) as unfinished:
                drawings[name]().savefig(unfinished, format="png")
        except Exception as error:  # whatever matplotlib raises, a picture is not worth a run
            if is_full_disk(error):
                raise
            logger.warning(f"{name} was not drawn: {one_line(error)}")
        else:
            drawn[name] = path.read_bytes()
    return drawn


def _comments(validation: Dataset, toxic: np.ndarray, scores: np.ndarray) -> dict[str, list[Comment]]:
    """Comments with the highest and lowest scores, and the worst errors, by their heading."""
    lowest_first, highest_first = np.argsort(scores, kind="stable"), np.argsort(-scores, kind="stable")
    groups = {
        "Most toxic": highest_first,
        "Least toxic": lowest_first,
        "Worst false positives: civil comments with the highest scores": highest_first[~toxic[highest_first]],
        "Worst false negatives: toxic comments with the lowest scores": lowest_first[toxic[lowest_first]],
    }
    return {
        heading: [
            Comment(_id_of(validation[row]), validation[row][TEXT], bool(toxic[row]), float(scores[row]))
            for row in rows[:SHOWN_COMMENTS].tolist()
        ]
        for heading, rows in groups.items()
    }


def _id_of(row: Mapping[str, Any]) -> Any:
    return "missing" if row[ID] is None else row[ID]
