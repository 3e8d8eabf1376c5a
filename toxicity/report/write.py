"""What a run leaves for its reader: the row of the table, the scores, a page with pictures, and what it prints."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import logging
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from datasets import Dataset
from scipy.special import expit

from toxicity.bench.runs import SCHEMA_VERSION, benchmark_table
from toxicity.core.arguments import Arguments, ObjectiveArguments
from toxicity.core.console import printable
from toxicity.core.disk import is_full_disk
from toxicity.core.errors import one_line
from toxicity.core.files import write_text, written_whole
from toxicity.core.schema import ID, TEXT
from toxicity.core.training_arguments import OPTIONS_OF_TRAINING, TrainingArguments
from toxicity.data.sources import Splits, labels_of
from toxicity.report import plots
from toxicity.report.page import Comment, Picture, report_page
from toxicity.training.trainer import ToxicityTrainer

PACKAGES = ("torch", "transformers", "datasets", "accelerate", "tokenizers", "evaluate", "scikit-learn")

logger = logging.getLogger(__name__)

# Under each heading of the page.
SHOWN_COMMENTS = 5


def describe_protocol(arguments: Arguments, splits: Splits, trainer: ToxicityTrainer) -> dict[str, Any]:
    """What was run, as far as two rows must agree on it to be compared."""
    return {
        "recipe": arguments.recipe,
        "dataset": splits.source,
        "model": arguments.model.model_name_or_path,
        "model_is_local": Path(arguments.model.model_name_or_path).exists(),
        "config_overrides": arguments.model.config_overrides,
        "train_rows": splits.train_rows,
        "validation_rows": splits.validation_rows,
        "validation_positives": int(labels_of(splits.validation).sum()),
        "max_seq_length": arguments.data.max_seq_length,
        "epochs": trainer.state.epoch,
        "seed": arguments.training.seed,
        "mixed_precision": trainer.mixed_precision,
        "train_sampling_strategy": arguments.training.train_sampling_strategy,
        "optimiser": _describe_optimiser(arguments.training),
        "options": _describe_options(arguments),
    }


def _describe_options(arguments: Arguments) -> dict[str, Any]:
    """What is on of the options that are off by default and change what is learnt."""
    chosen = {
        **dataclasses.asdict(arguments.objective),
        "head_tail_truncation": arguments.data.head_tail_truncation,
        **{name: getattr(arguments.training, name) for name in OPTIONS_OF_TRAINING},
    }
    defaults = dataclasses.asdict(ObjectiveArguments()) | {"head_tail_truncation": False} | OPTIONS_OF_TRAINING
    return {name: value for name, value in chosen.items() if value != defaults[name]}


def _describe_optimiser(args: TrainingArguments) -> dict[str, Any]:
    """What beside data, model and length decides how good a run gets: the part of its protocol that the flags set.

    `batch_size` is in comments an optimiser step, over its accumulation steps and processes.
    """
    return {
        "optim": args.optim.value,
        "batch_size": args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
        "learning_rate": args.learning_rate,
        "lr_scheduler_type": args.lr_scheduler_type.value,
        "warmup_steps": args.warmup_steps,
        "weight_decay": args.weight_decay,
        "max_grad_norm": args.max_grad_norm,
    }


def build_benchmark(
    machine: Mapping[str, Any],
    protocol: Mapping[str, Any],
    seconds: Mapping[str, float],
    tokenizer_cache_hit: bool,
    counts: Mapping[str, float],
    metrics: Mapping[str, Any],
    calibration: Mapping[str, Any] | None,
    probe: Mapping[str, Any] | None,
    dropped_rows: Mapping[str, int],
    interruptions: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The row of a run as `report/benchmark.json` holds it.

    Args:
        machine: of `hardware.describe_machine`.
        protocol: of `describe_protocol`.
        seconds: of the phases `tokenizer`, `training`, `inference`, `metrics` and `probe`.
        tokenizer_cache_hit: whether some or all token ids were in the cache, so that the time is not that of all.
        counts: how many rows and real tokens went through: `tokenized_rows`, `trained_rows`, `trained_tokens`,
            `scored_rows`, `scored_tokens`; and what the model computed on those tokens: `trained_flops`,
            `scored_flops`.
        metrics: of `metrics.ToxicityMetric` on the validation rows.
        calibration: of `calibration.calibrate`.
        probe: of `probe.probe`.
        dropped_rows: how many rows of the source were left out, by reason.
        interruptions: of `resuming.Checkpoints`; where there are some, times and counts are those of all parts.

    Returns:
        A dictionary that `json.dumps` takes, times in seconds, rates per second.
    """

    def rate(count: str, phase: str) -> float:
        return counts[count] / seconds[phase] if seconds[phase] else 0.0

    return {
        "schema_version": SCHEMA_VERSION,
        "machine": dict(machine),
        "versions": {
            "python": platform.python_version(),
            **{package: importlib.metadata.version(package) for package in PACKAGES},
        },
        "protocol": dict(protocol),
        "dropped_rows": dict(dropped_rows),
        "timing": {
            "tokenizer_seconds": seconds["tokenizer"],
            "tokenizer_cache_hit": tokenizer_cache_hit,
            "resumed": bool(interruptions),
            "interruptions": [dict(interruption) for interruption in interruptions],
            "training_seconds": seconds["training"],
            "inference_seconds": seconds["inference"],
            "metrics_seconds": seconds["metrics"],
            "probe_seconds": seconds["probe"],
            "checkpoint_seconds": seconds.get("checkpoint", 0.0),
        },
        "throughput": {
            "tokenizer_rows_per_second": rate("tokenized_rows", "tokenizer"),
            "training_rows_per_second": rate("trained_rows", "training"),
            "inference_rows_per_second": rate("scored_rows", "inference"),
            "training_tokens_per_second": rate("trained_tokens", "training"),
            "inference_tokens_per_second": rate("scored_tokens", "inference"),
            "training_flops_per_second": rate("trained_flops", "training"),
            "inference_flops_per_second": rate("scored_flops", "inference"),
        },
        "metrics": dict(metrics),
        "calibration": calibration,
        "probe": probe,
    }


def write_report(
    output_dir: Path,
    benchmark: dict[str, Any],
    validation: Dataset,
    logits: np.ndarray,
    log_history: Sequence[Mapping[str, Any]],
    held_out: np.ndarray | None = None,
) -> None:
    """Write the folder `report`, then print the row, two comments and the JSON.

    It gets `benchmark.json`, `predictions.parquet`, pictures of what is defined and known, and `report.md`.

    Args:
        output_dir: folder of the run.
        benchmark: of `build_benchmark`.
        validation: rows with `id`, `text` and `target`.
        logits: float `(rows,)`, in the order of `validation`.
        log_history: of `trainer.state`.
        held_out: row numbers that the calibration was not fitted on; None where nothing was fitted.
    """
    folder = output_dir / "report"
    folder.mkdir(parents=True, exist_ok=True)
    # In float64, or the surest comments would all score exactly 1 and the file would give another AUC.
    scores = expit(logits.astype(np.float64))
    labels = labels_of(validation)
    predictions = pa.table(
        {
            "id": validation.select_columns(ID).with_format("arrow")[:][ID],
            "label": labels.astype(np.int8),
            "score": scores,
        }
    )
    with written_whole(folder / "predictions.parquet") as unfinished:
        pyarrow.parquet.write_table(predictions, unfinished)
    write_text(folder / "benchmark.json", json.dumps(benchmark, indent=2) + "\n")
    pictures = _draw(folder, benchmark, labels > 0, logits, log_history, held_out)
    page = report_page(benchmark, pictures, _comments(validation, labels > 0, scores))
    write_text(folder / "report.md", page)

    print(f"\n{benchmark_table([benchmark])}\n")
    for name, row in (("Most", scores.argmax()), ("Least", scores.argmin())):
        print(f"{name} toxic ({scores[row]:.6f}): {printable(validation[int(row)][TEXT])}")
    print(f"\nEverything else is in {output_dir}\n")
    print(json.dumps(benchmark), flush=True)


def _draw(
    folder: Path,
    benchmark: Mapping[str, Any],
    toxic: np.ndarray,
    logits: np.ndarray,
    log_history: Sequence[Mapping[str, Any]],
    held_out: np.ndarray | None,
) -> list[Picture]:
    """Draw what can be drawn, and take away what another run left under the name of a picture that cannot."""
    metrics, calibration, probe = benchmark["metrics"], benchmark.get("calibration"), benchmark.get("probe")
    finite = bool(np.isfinite(logits).all())
    both_classes = bool(toxic.any() and not toxic.all())
    temperature = calibration["temperature"] if calibration else None
    judged = slice(None) if held_out is None else held_out
    drawings: list[tuple[str, str, object, Callable[[Path], None]]] = [
        ("timing.png", "Time of each phase", True, lambda path: plots.draw_timing(benchmark, path)),
        (
            *("training.png", "Loss and learning rate over the steps", plots.losses_logged(log_history)),
            lambda path: plots.draw_training(log_history, path),
        ),
        (
            *("roc.png", "ROC curve", finite and both_classes),
            lambda path: plots.draw_roc(toxic, logits, metrics, path),
        ),
        (
            *("precision_recall.png", "Precision and recall", finite and both_classes),
            lambda path: plots.draw_precision_recall(toxic, logits, metrics, calibration, path),
        ),
        (
            *("reliability.png", "Reliability of the scores, before and after the temperature", finite),
            lambda path: plots.draw_reliability(toxic[judged], logits[judged], temperature, path),
        ),
        ("bias.png", "AUCs by identity", metrics.get("bias"), lambda path: plots.draw_bias(metrics["bias"], path)),
        ("probe.png", "Shift of the score by identity", probe, lambda path: plots.draw_probe(probe, path)),
    ]
    drawn = []
    for name, shows, possible, draw in drawings:
        (folder / name).unlink(missing_ok=True)
        if not possible:
            continue
        try:
            with written_whole(folder / name) as unfinished:
                draw(unfinished)
        except Exception as error:  # whatever matplotlib makes of a machine, a picture is not worth a run
            if is_full_disk(error):
                raise
            logger.warning(f"{name} was not drawn: {one_line(error)}")
        else:
            drawn.append(Picture(name, shows))
    return drawn


def _comments(validation: Dataset, toxic: np.ndarray, scores: np.ndarray) -> dict[str, list[Comment]]:
    """The comments at the ends of the scores, and those at the wrong end, by the heading they go under."""
    lowest_first = np.argsort(scores, kind="stable")
    highest_first = np.argsort(-scores, kind="stable")
    groups = {
        "Most toxic": highest_first,
        "Least toxic": lowest_first,
        "Worst false positives: civil comments with the highest scores": highest_first[~toxic[highest_first]],
        "Worst false negatives: toxic comments with the lowest scores": lowest_first[toxic[lowest_first]],
    }
    return {
        heading: [
            Comment(validation[row][ID], validation[row][TEXT], bool(toxic[row]), float(scores[row]))
            for row in rows[:SHOWN_COMMENTS].tolist()
        ]
        for heading, rows in groups.items()
    }
