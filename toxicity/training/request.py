"""The data and options that decide a run's final weights: a checkpoint is resumed only by a run that has the same."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
from datasets import Dataset
from transformers import TrainingArguments as HfTrainingArguments

from toxicity.core.arguments import Arguments
from toxicity.core.files import digest
from toxicity.core.schema import LABEL

ROWS_PER_BATCH = 100_000

# Fields of transformers' TrainingArguments that change the weights, apart from those that make up `batch size`.
FIELDS_THAT_TRAIN = (
    *("num_train_epochs", "max_steps", "seed", "data_seed", "train_sampling_strategy", "dataloader_drop_last"),
    *("optim", "optim_args", "learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps"),
    *("weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm", "neftune_noise_alpha"),
)
# With `load_best_model_at_end` these also decide which weights a run ends with.
FIELDS_THAT_CHOOSE = (
    *("metric_for_best_model", "greater_is_better", "eval_strategy", "eval_steps", "eval_delay"),
    *("save_strategy", "save_steps"),
)
# Options of earlier versions that changed the weights.
REMOVED = ("ema_decay",)


def describe_request(
    arguments: Arguments, labels: Sequence[str], train: Dataset, validation: Dataset
) -> dict[str, Any]:
    """All that decides which weights a training ends with, and on which rows they are validated: JSON values by name.

    Options are named like their flags. Data are compared by content: the same comments in another file are the same
    request.

    Args:
        labels: their names, as in `Splits`.
        train, validation: rows with `input_ids`, `length` and their targets.
    """
    options = arguments.training
    facts = {
        "training comments": _digest(train),
        "validation comments": _digest(validation),
        "max_seq_length": arguments.data.max_seq_length,
        "batch size": options.train_batch_size * options.gradient_accumulation_steps * options.world_size,
        "mixed_precision": options.mixed_precision,
        "labels": None if tuple(labels) == (LABEL,) else list(labels),
        "load_best_model_at_end": options.load_best_model_at_end,
    }
    for group in (getattr(arguments, field.name) for field in dataclasses.fields(arguments)):
        apart = (arguments.data, arguments.machine, arguments.calibration, options)
        if dataclasses.is_dataclass(group) and group not in apart:
            facts |= dataclasses.asdict(group)
    # Checkpoints of earlier versions do not have it, and are of runs without it.
    facts["counterfactual_pairing"] = arguments.objective.counterfactual_pairing or None
    of_transformers = {field.name for field in dataclasses.fields(HfTrainingArguments)}
    own = [field.name for field in dataclasses.fields(options) if field.name not in of_transformers]
    # The only ones that do not change the weights: a step has the same rows however it is cut.
    own = [name for name in own if name not in ("save_minutes", "max_tokens_per_batch")]
    chosen_by = FIELDS_THAT_CHOOSE if options.load_best_model_at_end else ()
    facts |= {name: getattr(options, name) for name in (*FIELDS_THAT_TRAIN, *chosen_by, *own)}
    return json.loads(json.dumps(facts, default=lambda value: getattr(value, "value", str(value))))


def differences(saved: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """The differences between two requests, as parts of a sentence."""
    changed = [
        f"the {name} are others" if name.endswith("comments") else f"{name} was {saved.get(name)} and is {value}"
        for name, value in asked.items()
        if saved.get(name) != value
    ]
    return changed + [f"{name} was {saved[name]} and is no longer an option" for name in REMOVED if saved.get(name)]


def _digest(rows: Dataset) -> str:
    """Digest of the token ids of a dataset and of their targets, in order."""

    def parts() -> Iterator[Any]:
        for batch in rows.remove_columns("length").with_format("arrow").iter(ROWS_PER_BATCH):
            for name in batch.column_names:
                for chunk in batch[name].chunks:
                    if name == "input_ids":
                        yield chunk.value_lengths().to_numpy(zero_copy_only=False)
                    numbers = chunk if pa.types.is_floating(chunk.type) else chunk.flatten()
                    yield numbers.to_numpy(zero_copy_only=False)

    return digest(parts())
