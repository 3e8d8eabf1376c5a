"""Write a run's folder `report` (benchmark, predictions, pictures and the report itself), and print its summary."""

from __future__ import annotations

import json
import logging
import warnings
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
from toxicity.bench.runs import benchmark_table, mean_auc
from toxicity.core.console import QUOTED_CHARACTERS, printable
from toxicity.core.disk import is_full_disk
from toxicity.core.errors import one_line
from toxicity.core.files import write_text, written_whole
from toxicity.core.markdown import markdown_table
from toxicity.core.run_folder import RunFolder
from toxicity.core.schema import ID, TEXT, TOXIC_THRESHOLD, hard_labels
from toxicity.data.sources import label_targets_of
from toxicity.report import identity_plots, label_plots, plots
from toxicity.report.figures import FIGURES
from toxicity.report.label_plots import Judged
from toxicity.report.label_tables import several_labels
from toxicity.report.page import Comment, report_html, report_markdown
from toxicity.report.tables import number
from toxicity.training.evaluate import Evaluation

logger = logging.getLogger(__name__)

# Under each heading of the report, and for each label but the main one.
SHOWN_COMMENTS, SHOWN_COMMENTS_OF_A_LABEL = 5, 3


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
        validation: rows with `id`, `text`, `target` and a column for each label but the main one.
        evaluation: of the same rows.
        log_history: of `trainer.state`.
    """
    run = RunFolder(output_dir)
    run.report.mkdir(parents=True, exist_ok=True)
    names = tuple(evaluation.calibrations)
    # In float64: in float32 the highest scores would all round to 1, and the file would give another AUC.
    scores = expit(evaluation.logits.astype(np.float64))
    targets = label_targets_of(validation, names)
    with written_whole(run.report / "predictions.parquet") as unfinished:
        pyarrow.parquet.write_table(_predictions(validation, names, targets, scores), unfinished)
    write_text(run.benchmark, json.dumps(benchmark, indent=2) + "\n")
    judged = {name: _judged(targets[:, place], evaluation.logits[:, place]) for place, name in enumerate(names)}
    pictures = _draw(run.report, _drawings(benchmark, judged, evaluation, log_history))
    texts = (_comments(validation, targets[:, 0], scores[:, 0]), _label_comments(validation, names, targets, scores))
    write_text(run.report / "report.md", report_markdown(benchmark, pictures, *texts))
    write_text(run.report / "report.html", report_html(benchmark, pictures, *texts))

    print(f"\n{markdown_table(*benchmark_table([benchmark]))}\n")
    if labels := several_labels(benchmark["metrics"]):
        told = (
            f"{printable(name, QUOTED_CHARACTERS)} {number(section.get('auc'))}" for name, section in labels.items()
        )
        print(f"Mean AUC {mean_auc(benchmark['metrics'])}: {', '.join(told)}\n")
    scores = scores[:, 0]
    for name, row in (("Most", scores.argmax()), ("Least", scores.argmin())):
        print(f"{name} toxic ({scores[row]:.6f}): {printable(validation[int(row)][TEXT])}")
    print(f"\nEverything else is in {run}\n")
    print(json.dumps(benchmark), flush=True)


def _predictions(validation: Dataset, names: Sequence[str], targets: np.ndarray, scores: np.ndarray) -> pa.Table:
    """`id`, `label` and `score` of each row, and the same of each further label: int8, null where nobody said."""
    columns = {"id": validation.select_columns(ID).with_format("arrow")[:][ID]}
    for place, ending in enumerate(["", *(f"_{name}" for name in names[1:])]):
        missing = np.isnan(targets[:, place])
        columns[f"label{ending}"] = pa.array(hard_labels(targets[:, place]).astype(np.int8), mask=missing)
        columns[f"score{ending}"] = scores[:, place]
    return pa.table(columns)


def _judged(targets: np.ndarray, logits: np.ndarray) -> Judged:
    rows = ~np.isnan(targets)
    return Judged(hard_labels(targets[rows]) > 0, logits[rows])


def _drawings(
    benchmark: Mapping[str, Any],
    judged: Mapping[str, Judged],
    evaluation: Evaluation,
    log_history: Sequence[Mapping[str, Any]],
) -> dict[str, Callable[[], Figure]]:
    """The pictures that the measurements allow: file name to the function that draws it."""
    metrics, calibration, probe = benchmark["metrics"], benchmark.get("calibration"), benchmark.get("probe")
    toxic, logits = next(iter(judged.values()))
    drawings = {"timing.png": partial(plots.draw_timing, benchmark)}
    if plots.losses_logged(log_history):
        drawings["training.png"] = partial(plots.draw_training, log_history)
    if labels := several_labels(metrics):
        drawings["roc_by_label.png"] = partial(label_plots.draw_roc_by_label, judged, labels)
        drawings["precision_recall_by_label.png"] = partial(label_plots.draw_precision_recall_by_label, judged, labels)
    if len(logits) and np.isfinite(logits).all():
        fitted = evaluation.calibration
        drawings["reliability.png"] = partial(plots.draw_reliability, toxic, logits, fitted.cross_fitted, fitted.method)
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
            with rc_context(fname=STYLE), warnings.catch_warnings(), written_whole(path) as unfinished:
                # Names of labels may be in any script; a box in a picture is no fault of the run.
                warnings.filterwarnings("ignore", "Glyph .* missing from font")
                drawings[name]().savefig(unfinished, format="png")
        except Exception as error:  # whatever matplotlib raises, a picture is not worth a run
            if is_full_disk(error):
                raise
            logger.warning(f"{name} was not drawn: {one_line(error)}")
        else:
            drawn[name] = path.read_bytes()
    return drawn


def _comments(validation: Dataset, targets: np.ndarray, scores: np.ndarray) -> dict[str, list[Comment]]:
    """Comments with the highest and lowest scores, and the worst errors, by their heading."""
    # Neither of them where nobody said.
    toxic, civil = targets >= TOXIC_THRESHOLD, targets < TOXIC_THRESHOLD
    lowest_first, highest_first = np.argsort(scores, kind="stable"), np.argsort(-scores, kind="stable")
    groups = {
        "Most toxic": highest_first,
        "Least toxic": lowest_first,
        "Worst false positives: civil comments with the highest scores": highest_first[civil[highest_first]],
        "Worst false negatives: toxic comments with the lowest scores": lowest_first[toxic[lowest_first]],
    }
    return {
        heading: [_comment(validation, row, targets, scores) for row in rows[:SHOWN_COMMENTS].tolist()]
        for heading, rows in groups.items()
    }


def _label_comments(
    validation: Dataset, names: Sequence[str], targets: np.ndarray, scores: np.ndarray
) -> dict[str, list[Comment]]:
    """Comments with the highest scores of each label but the main one, by its name."""
    return {
        name: [
            _comment(validation, row, targets[:, place], scores[:, place])
            for row in np.argsort(-scores[:, place], kind="stable")[:SHOWN_COMMENTS_OF_A_LABEL].tolist()
        ]
        for place, name in enumerate(names[1:], 1)
    }


def _comment(validation: Dataset, row: int, targets: np.ndarray, scores: np.ndarray) -> Comment:
    found = validation[row]
    label = None if np.isnan(targets[row]) else bool(targets[row] >= TOXIC_THRESHOLD)
    return Comment("missing" if found[ID] is None else found[ID], found[TEXT], label, float(scores[row]))
