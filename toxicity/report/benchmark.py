"""The row of a run as `report/benchmark.json` holds it: machine, protocol, times, rates and metrics."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toxicity.bench.runs import SCHEMA_VERSION
from toxicity.core.arguments import Arguments
from toxicity.core.objective_arguments import ObjectiveArguments
from toxicity.core.schema import TOXIC_THRESHOLD
from toxicity.core.training_arguments import OPTIONS_OF_TRAINING
from toxicity.data.sources import Splits, targets_of
from toxicity.evaluation.trained_terms import probed_among
from toxicity.models.flops import Encoder
from toxicity.training.evaluate import Evaluation
from toxicity.training.trainer import ToxicityTrainer

RUN_PACKAGES = ("torch", "transformers", "datasets", "accelerate", "tokenizers", "evaluate", "scikit-learn")
# Options of the data that change the model, with their defaults.
OPTIONS_OF_DATA = {
    "head_tail_truncation": False,
    "augment_typos": 0.0,
    "counterfactuals": 0.0,
    "identity_rows": 0.0,
}


def build_benchmark(
    machine: Mapping[str, Any],
    protocol: Mapping[str, Any],
    splits: Splits,
    trainer: ToxicityTrainer,
    encoder: Encoder,
    evaluation: Evaluation,
) -> dict[str, Any]:
    """The content of `benchmark.json`, ready for `json.dumps`: times in seconds, rates per second.

    Tokens and FLOPs are those of real tokens, without padding. Times and counts cover all parts of an interrupted run.
    Every process calls it.

    Args:
        machine: of `preflight.check_machine`.
        protocol: of `describe_protocol`.
        splits: the comments.
        trainer: after training.
        encoder: size of its model, measured before training.
        evaluation: of the validation rows.
    """
    seconds, tokenizing = trainer.clock.seconds, trainer.checkpoints.tokenizing
    interruptions = list(trainer.checkpoints.interruptions)
    trained_rows, trained_tokens = trainer.trained_rows_and_tokens()
    # A copy beside its comment is a text of its own, whose tokens attend to each other alone.
    beside = trainer.train_dataset.copies
    trained_texts = trained_rows * (1 + beside / len(trainer.train_dataset))
    scored_rows, scored_tokens = len(splits.validation), int(trainer.eval_dataset.lengths.sum())

    def rate(count: float, seconds: float) -> float:
        return count / seconds if seconds else 0.0

    return {
        "schema_version": SCHEMA_VERSION,
        "machine": dict(machine),
        "versions": {
            "python": platform.python_version(),
            **{package: importlib.metadata.version(package) for package in RUN_PACKAGES},
        },
        "protocol": {**protocol, "labels": list(evaluation.calibrations)},
        "dropped_rows": dict(splits.dropped_rows),
        "timing": {
            # A run that was resumed found its tokens in the cache: the time is that of its first start.
            "tokenizer_seconds": tokenizing["seconds"],
            "tokenizer_cache_hit": tokenizing["cache_hit"],
            "resumed": bool(interruptions),
            "interruptions": interruptions,
            "training_seconds": seconds["training"],
            "inference_seconds": seconds["inference"],
            "metrics_seconds": seconds["metrics"],
            "probe_seconds": seconds["probe"],
            "robustness_seconds": seconds.get("robustness", 0.0),
            "eval_files_seconds": seconds.get("eval_files", 0.0),
            "checkpoint_seconds": seconds.get("checkpoint", 0.0),
        },
        "throughput": {
            "tokenizer_rows_per_second": rate(tokenizing["rows"], tokenizing["seconds"]),
            "training_rows_per_second": rate(trained_rows, seconds["training"]),
            "inference_rows_per_second": rate(scored_rows, seconds["inference"]),
            "training_tokens_per_second": rate(trained_tokens, seconds["training"]),
            "inference_tokens_per_second": rate(scored_tokens, seconds["inference"]),
            "training_flops_per_second": rate(
                encoder.training_flops(trained_texts, trained_tokens), seconds["training"]
            ),
            "inference_flops_per_second": rate(encoder.forward_flops(scored_rows, scored_tokens), seconds["inference"]),
        },
        "metrics": evaluation.metrics,
        "calibration": evaluation.calibration.measured,
        "probe": evaluation.probe,
        "robustness": evaluation.robustness,
        "eval_files": evaluation.eval_files,
        **_describe_counterfactuals(splits, beside),
    }


def describe_protocol(arguments: Arguments, splits: Splits, trainer: ToxicityTrainer) -> dict[str, Any]:
    """Everything that two runs must share for their times and metrics to be comparable."""
    args = arguments.training
    return {
        "recipe": arguments.recipe,
        "dataset": splits.source,
        "model": arguments.model.model_name_or_path,
        "model_is_local": Path(arguments.model.model_name_or_path).exists(),
        "config_overrides": arguments.model.config_overrides,
        "train_rows": splits.train_rows,
        "validation_rows": splits.validation_rows,
        "validation_positives": int((targets_of(splits.validation) >= TOXIC_THRESHOLD).sum()),
        "max_seq_length": arguments.data.max_seq_length,
        "epochs": trainer.state.epoch,
        "seed": args.seed,
        "mixed_precision": trainer.accelerator.mixed_precision,
        "train_sampling_strategy": args.train_sampling_strategy,
        "optimiser": {
            "optim": args.optim.value,
            # Comments per optimiser step, over all processes.
            "batch_size": args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
            "learning_rate": args.learning_rate,
            "lr_scheduler_type": args.lr_scheduler_type.value,
            "warmup_steps": args.warmup_steps,
            "weight_decay": args.weight_decay,
            "max_grad_norm": args.max_grad_norm,
        },
        # Most of them in a forward pass; None where the number of rows alone limits it.
        "max_tokens_per_batch": trainer.max_tokens,
        "options": _describe_options(arguments),
    }


def _describe_counterfactuals(splits: Splits, beside: int) -> dict[str, Any]:
    """The section `counterfactuals`, if copies were trained on: how many, of how many comments, with which terms.

    Where copies are compared with their comments, those `beside` these count, as the others are left out.
    """
    copies = splits.counterfactuals
    if copies is None:
        return {}
    described = {
        "comments": copies.comments,
        "copies": beside or len(copies.originals),
        "terms": copies.terms,
        "terms_probed": probed_among(copies.terms),
    }
    return {"counterfactuals": described}


def _describe_options(arguments: Arguments) -> dict[str, Any]:
    """Options that change the trained model and differ from their defaults."""
    terms = arguments.data.identity_terms
    chosen = {
        **dataclasses.asdict(arguments.objective),
        **{name: getattr(arguments.data, name) for name in OPTIONS_OF_DATA},
        "identity_terms": None if terms is None else Path(terms).name,
        **{name: getattr(arguments.training, name) for name in OPTIONS_OF_TRAINING},
    }
    defaults = dataclasses.asdict(ObjectiveArguments()) | OPTIONS_OF_DATA | OPTIONS_OF_TRAINING
    return {name: value for name, value in chosen.items() if value != defaults.get(name)}
