"""The row of a run as `report/benchmark.json` holds it: machine, protocol, times, rates and metrics."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toxicity.bench.runs import SCHEMA_VERSION
from toxicity.core.arguments import Arguments, ObjectiveArguments
from toxicity.core.training_arguments import OPTIONS_OF_TRAINING, TrainingArguments
from toxicity.data.sources import Splits, labels_of
from toxicity.models.flops import Encoder
from toxicity.training.evaluate import Evaluation
from toxicity.training.trainer import ToxicityTrainer

PACKAGES = ("torch", "transformers", "datasets", "accelerate", "tokenizers", "evaluate", "scikit-learn")


@dataclass
class RunResult:
    """What a run measured.

    Attributes:
        machine: of `hardware.machine.describe_machine`.
        protocol: of `describe_protocol`.
        seconds: duration of the phases `tokenizer`, `training`, `inference`, `metrics` and `probe`, and of
            `checkpoint` where any were written.
        counts: rows and real tokens (without padding) of each phase: `tokenized_rows`, `trained_rows`,
            `trained_tokens`, `scored_rows`, `scored_tokens`; and the model's FLOPs on those tokens: `trained_flops`,
            `scored_flops`.
        metrics: of `ToxicityMetric` on the validation rows.
        tokenizer_cache_hit: whether any token ids came from the cache, so that the time does not cover all rows.
        calibration: `Calibration.measured`.
        probe: of `identity_probe.probe`.
        dropped_rows: number of bad rows left out of the data, by reason.
        interruptions: of `resume.Checkpoints`; if there are any, times and counts cover all parts of the run.
    """

    machine: Mapping[str, Any]
    protocol: Mapping[str, Any]
    seconds: Mapping[str, float]
    counts: Mapping[str, float]
    metrics: Mapping[str, Any]
    tokenizer_cache_hit: bool = False
    calibration: Mapping[str, Any] | None = None
    probe: Mapping[str, Any] | None = None
    dropped_rows: Mapping[str, int] = dataclasses.field(default_factory=dict)
    interruptions: Sequence[Mapping[str, Any]] = ()


def result_of_run(
    arguments: Arguments,
    machine: Mapping[str, Any],
    splits: Splits,
    trainer: ToxicityTrainer,
    encoder: Encoder,
    evaluation: Evaluation,
) -> RunResult:
    """Collect what a run measured, once its model is evaluated; every process calls it.

    Args:
        arguments: the parsed request.
        machine: of `preflight.check_machine`.
        splits: the comments.
        trainer: after training.
        encoder: size of its model, measured before training.
        evaluation: of the validation rows.
    """
    tokenizing = trainer.checkpoints.tokenizing
    rows, tokens = len(splits.validation), int(trainer.eval_dataset.lengths.sum())
    trained_rows, trained_tokens = trainer.trained_rows_and_tokens()
    return RunResult(
        machine=machine,
        protocol=describe_protocol(arguments, splits, trainer),
        # A run that was resumed found its tokens in the cache: the time is that of its first start.
        seconds=trainer.clock.seconds | {"tokenizer": tokenizing["seconds"]},
        counts={
            "tokenized_rows": tokenizing["rows"],
            "trained_rows": trained_rows,
            "trained_tokens": trained_tokens,
            "scored_rows": rows,
            "scored_tokens": tokens,
            "trained_flops": encoder.training_flops(trained_rows, trained_tokens),
            "scored_flops": encoder.forward_flops(rows, tokens),
        },
        metrics=evaluation.metrics,
        tokenizer_cache_hit=tokenizing["cache_hit"],
        calibration=evaluation.calibration.measured,
        probe=evaluation.probe,
        dropped_rows=splits.dropped_rows,
        interruptions=trainer.checkpoints.interruptions,
    )


def build_benchmark(result: RunResult) -> dict[str, Any]:
    """The content of `benchmark.json`, ready for `json.dumps`: times in seconds, rates per second."""
    seconds, counts = result.seconds, result.counts

    def rate(count: str, phase: str) -> float:
        return counts[count] / seconds[phase] if seconds[phase] else 0.0

    return {
        "schema_version": SCHEMA_VERSION,
        "machine": dict(result.machine),
        "versions": {
            "python": platform.python_version(),
            **{package: importlib.metadata.version(package) for package in PACKAGES},
        },
        "protocol": dict(result.protocol),
        "dropped_rows": dict(result.dropped_rows),
        "timing": {
            "tokenizer_seconds": seconds["tokenizer"],
            "tokenizer_cache_hit": result.tokenizer_cache_hit,
            "resumed": bool(result.interruptions),
            "interruptions": [dict(interruption) for interruption in result.interruptions],
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
        "metrics": dict(result.metrics),
        "calibration": result.calibration,
        "probe": result.probe,
    }


def describe_protocol(arguments: Arguments, splits: Splits, trainer: ToxicityTrainer) -> dict[str, Any]:
    """Everything that two runs must share for their times and metrics to be comparable."""
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
        "mixed_precision": trainer.accelerator.mixed_precision,
        "train_sampling_strategy": arguments.training.train_sampling_strategy,
        "optimiser": _describe_optimiser(arguments.training),
        "options": _describe_options(arguments),
    }


def _describe_options(arguments: Arguments) -> dict[str, Any]:
    """Options that change the trained model and differ from their defaults."""
    chosen = {
        **dataclasses.asdict(arguments.objective),
        "head_tail_truncation": arguments.data.head_tail_truncation,
        **{name: getattr(arguments.training, name) for name in OPTIONS_OF_TRAINING},
    }
    defaults = dataclasses.asdict(ObjectiveArguments()) | {"head_tail_truncation": False} | OPTIONS_OF_TRAINING
    return {name: value for name, value in chosen.items() if value != defaults[name]}


def _describe_optimiser(args: TrainingArguments) -> dict[str, Any]:
    """Settings of the optimiser. `batch_size` is in comments per optimiser step, over all processes."""
    return {
        "optim": args.optim.value,
        "batch_size": args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
        "learning_rate": args.learning_rate,
        "lr_scheduler_type": args.lr_scheduler_type.value,
        "warmup_steps": args.warmup_steps,
        "weight_decay": args.weight_decay,
        "max_grad_norm": args.max_grad_norm,
    }
