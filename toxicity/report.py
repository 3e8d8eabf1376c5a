"""What a run leaves for its reader: the row of the table, the scores, the most and the least toxic comment."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from datasets import Dataset

from toxicity.arguments import Arguments
from toxicity.console import printable
from toxicity.data import Splits, labels_of
from toxicity.rows import SCHEMA_VERSION, benchmark_table
from toxicity.schema import ID, TEXT
from toxicity.training import ToxicityTrainer, describe_optimiser

PACKAGES = ("torch", "transformers", "datasets", "accelerate", "tokenizers", "evaluate", "scikit-learn")


def describe_protocol(arguments: Arguments, splits: Splits, trainer: ToxicityTrainer) -> dict[str, Any]:
    """What was run, as far as two rows must agree on it to be compared."""
    return {
        "recipe": arguments.recipe,
        "dataset": splits.source,
        "model": arguments.model.model_name_or_path,
        "config_overrides": arguments.model.config_overrides,
        "train_rows": splits.train_rows,
        "validation_rows": splits.validation_rows,
        "validation_positives": int(labels_of(splits.validation).sum()),
        "max_seq_length": arguments.data.max_seq_length,
        "epochs": trainer.state.epoch,
        "seed": arguments.training.seed,
        "mixed_precision": trainer.mixed_precision,
        "train_sampling_strategy": arguments.training.train_sampling_strategy,
        "optimiser": describe_optimiser(arguments.training),
    }


def build_benchmark(
    machine: Mapping[str, Any],
    protocol: Mapping[str, Any],
    seconds: Mapping[str, float],
    tokenizer_cache_hit: bool,
    resumed: bool,
    counts: Mapping[str, float],
    auc: float | None,
    dropped_rows: Mapping[str, int],
    interruptions: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The row of a run as `report/benchmark.json` holds it.

    Args:
        machine: of `hardware.describe_machine`.
        protocol: of `describe_protocol`.
        seconds: of the phases `tokenizer`, `training` and `inference`.
        tokenizer_cache_hit: whether some or all token ids were in the cache, so that the time is not that of all.
        resumed: whether training went on from a checkpoint; times and counts are those of all parts.
        counts: how many rows and real tokens went through: `tokenized_rows`, `trained_rows`, `trained_tokens`,
            `scored_rows`, `scored_tokens`; and what the model computed on those tokens: `trained_flops`,
            `scored_flops`.
        auc: ROC AUC on the validation rows, None where it is not defined.
        dropped_rows: how many rows of the source were left out, by reason.
        interruptions: of `resuming.Checkpoints`.

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
            "resumed": resumed,
            "interruptions": [dict(interruption) for interruption in interruptions],
            "training_seconds": seconds["training"],
            "inference_seconds": seconds["inference"],
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
        "metrics": {"auc": auc, "bias": None},
    }


def write_report(output_dir: Path, benchmark: dict[str, Any], validation: Dataset, logits: np.ndarray) -> None:
    """Write `report/benchmark.json` and `report/predictions.parquet`, then print the row, two comments and the JSON.

    Args:
        output_dir: folder of the run.
        benchmark: of `build_benchmark`.
        validation: rows with `id`, `text` and `target`.
        logits: float `(rows,)`, in the order of `validation`.
    """
    folder = output_dir / "report"
    folder.mkdir(parents=True, exist_ok=True)
    # In float64, or the surest comments would all score exactly 1 and the file would give another AUC.
    scores = 1.0 / (1.0 + np.exp(-logits.astype(np.float64)))
    predictions = pa.table(
        {
            "id": validation.select_columns(ID).with_format("arrow")[:][ID],
            "label": labels_of(validation).astype(np.int8),
            "score": scores,
        }
    )
    _replace(folder / "predictions.parquet", lambda path: pyarrow.parquet.write_table(predictions, path))
    _replace(folder / "benchmark.json", lambda path: path.write_text(json.dumps(benchmark, indent=2) + "\n"))

    print(f"\n{benchmark_table([benchmark])}\n")
    for name, row in (("Most", scores.argmax()), ("Least", scores.argmin())):
        print(f"{name} toxic ({scores[row]:.6f}): {printable(validation[int(row)][TEXT])}")
    print(f"\nEverything else is in {output_dir}\n")
    print(json.dumps(benchmark), flush=True)


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write under another name and rename, so that a reader finds the old file or the new one, never half of one."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    write(unfinished)
    unfinished.replace(path)
