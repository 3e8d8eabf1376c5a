"""The trainers that the benchmarks compare: this package's, and that of `transformers`, of the same task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import transformers
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding, PreTrainedModel, Trainer, set_seed

from benchmarks.sample import MAX_SEQ_LENGTH
from benchmarks.task import Task
from toxicity.core.training_arguments import TrainingArguments
from toxicity.data.token_dataset import TokenRows
from toxicity.hardware.timing import PhaseClock
from toxicity.models.classifier import load_model, load_tokenizer
from toxicity.models.padding_free import make_padding_free
from toxicity.training.batching import EpochSampler
from toxicity.training.losses import LossOptions
from toxicity.training.trainer import ToxicityTrainer

# That of the sample recipe, for all contenders.
OPTIMISER = {"learning_rate": 1e-4, "lr_scheduler_type": "linear", "warmup_steps": 0.06, "weight_decay": 0.01}


def stock_model(task: Task) -> PreTrainedModel:
    """The classifier in the class of `transformers`, its head drawn from the task's seed."""
    set_seed(task.seed)
    if task.model_shape != "minilm":
        return AutoModelForSequenceClassification.from_config(task.random_config(), attn_implementation="sdpa")
    config, _ = load_tokenizer(task.minilm, MAX_SEQ_LENGTH)
    ours = load_model(task.minilm, config)
    theirs = AutoModelForSequenceClassification.from_config(config, attn_implementation="sdpa")
    theirs.load_state_dict(ours.state_dict())
    return theirs


def our_model(task: Task) -> PreTrainedModel:
    """The same weights in a model that takes packed batches."""
    if task.model_shape == "minilm":
        set_seed(task.seed)
        return load_model(task.minilm, load_tokenizer(task.minilm, MAX_SEQ_LENGTH, labels=task.label_names)[0])
    model = stock_model(task)
    make_padding_free(model)
    return model


def order_of(task: Task, lengths: Sequence[int]) -> list[int]:
    """The order in which `ours` trains on rows of these lengths."""
    return list(EpochSampler(lengths, task.batch_size, task.seed, group_by_length=False))


def hf_trainer(task: Task, rows: Dataset, padded: bool, strategy: str, **options: Any) -> Trainer:
    """`transformers.Trainer` for rows of `rows_for_hf`, with training arguments beside those of all contenders."""
    return Trainer(
        model=stock_model(task),
        args=transformers.TrainingArguments(
            **_training_options(task) | options,
            train_sampling_strategy=strategy,
            length_column_name="length",
        ),
        train_dataset=rows,
        data_collator=None if padded else DataCollatorWithPadding(task.tokenizer()),
    )


def rows_for_hf(task: Task, rows: Dataset, padded: bool) -> Dataset:
    """Tokenise as the text-classification example does, and keep its columns; random tokens are padded alone."""
    tokenizer = task.tokenizer()
    options = {"max_length": MAX_SEQ_LENGTH, "padding": "max_length" if padded else False}

    def encode(batch: dict[str, list[Any]]) -> dict[str, Any]:
        if task.random_tokens:
            encoded = tokenizer.pad({"input_ids": batch["input_ids"]}, **options)
        else:
            encoded = tokenizer(batch["text"], truncation=True, **options)
        return encoded | {"labels": [[label] for label in batch["labels"]]}

    columns = [] if task.random_tokens else ["text"]
    return rows.map(encode, batched=True, remove_columns=columns, keep_in_memory=True)


def our_trainer(task: Task, rows: Dataset, **options: Any) -> ToxicityTrainer:
    """This package's trainer, for all labels of the task, with training arguments beside those of all contenders."""
    arguments = _training_options(task) | {"train_sampling_strategy": "random"} | options
    return ToxicityTrainer(
        model=our_model(task),
        args=TrainingArguments(**arguments),
        processing_class=task.tokenizer(),
        train_dataset=TokenRows(task.with_more_labels(rows)),
        eval_dataset=TokenRows(task.with_more_labels(task.rows("validation"))),
        clock=PhaseClock(),
        # The mean over the labels, as a run has it.
        loss_options=LossOptions(torch.full((task.labels,), 1 / task.labels)),
    )


def _training_options(task: Task) -> dict[str, Any]:
    return {
        "output_dir": f"{task.folder}/out",
        "num_train_epochs": 1,
        "per_device_train_batch_size": task.batch_size,
        "per_device_eval_batch_size": task.eval_batch_size,
        "bf16": task.precision == "bf16",
        "fp16": task.precision == "fp16",
        "use_cpu": not torch.cuda.is_available(),
        "seed": task.seed,
        "optim": "adamw_torch_fused",
        "save_strategy": "no",
        "report_to": "none",
        "logging_steps": 10,
        "disable_tqdm": True,
        "dataloader_pin_memory": torch.cuda.is_available(),
        **OPTIMISER,
    }
