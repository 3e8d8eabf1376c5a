"""The contenders of `benchmarks.speed`: ways to train on and score the same rows, each run in a process of its own.

python -m benchmarks.baselines NAME TASK.json    # prints times, memory and AUC as one JSON line
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Before the imports that read it.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import datasets
import numpy as np
import torch
import transformers
from datasets import Dataset
from sklearn.metrics import roc_auc_score
from torch.utils.data import DataLoader, TensorDataset
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    DataCollatorWithPadding,
    PreTrainedModel,
    Trainer,
    set_seed,
)

from benchmarks.sample import MAX_SEQ_LENGTH, sample_tokenizer
from benchmarks.task import BATCH_SIZE, WARM_UP_ROWS, Stopwatch, Task, peak_memory, timed
from toxicity.core.training_arguments import TrainingArguments
from toxicity.data.token_dataset import TokenRows
from toxicity.hardware.process import prepare_process
from toxicity.hardware.timing import PhaseClock
from toxicity.models.classifier import load_model, load_tokenizer
from toxicity.models.packing import fill_batches, longest_first
from toxicity.models.padding_free import layout_for, make_padding_free
from toxicity.training.batching import EpochSampler
from toxicity.training.trainer import ToxicityTrainer

# That of the sample recipe, for all contenders.
OPTIMISER = {"learning_rate": 1e-4, "lr_scheduler_type": "linear", "warmup_steps": 0.06, "weight_decay": 0.01}


def stock_model(task: Task) -> PreTrainedModel:
    """The classifier in the class of `transformers`, its head drawn from the task's seed."""
    set_seed(task.seed)
    if task.model_shape == "bert-base":
        return AutoModelForSequenceClassification.from_config(_bert_base(), attn_implementation="sdpa")
    config, _ = load_tokenizer(task.minilm, MAX_SEQ_LENGTH)
    ours = load_model(task.minilm, config)
    theirs = AutoModelForSequenceClassification.from_config(config, attn_implementation="sdpa")
    theirs.load_state_dict(ours.state_dict())
    return theirs


def our_model(task: Task) -> PreTrainedModel:
    """The same weights, without padding."""
    set_seed(task.seed)
    if task.model_shape == "bert-base":
        model = AutoModelForSequenceClassification.from_config(_bert_base())
        make_padding_free(model)
        return model
    config, _ = load_tokenizer(task.minilm, MAX_SEQ_LENGTH)
    return load_model(task.minilm, config)


def _bert_base() -> BertConfig:
    return BertConfig(num_labels=1, problem_type="multi_label_classification")


def hf_trainer(task: Task, padded: bool, strategy: str) -> dict[str, Any]:
    """`transformers.Trainer`, with the padding and the sampling strategy given."""
    tokenizer = sample_tokenizer()
    train, validation = task.rows("train"), task.rows("validation")
    # The order of `ours`, so that both take the same steps.
    order = list(EpochSampler(train["length"][:], BATCH_SIZE, task.seed, group_by_length=False))
    shuffled = train.select(order) if strategy == "sequential" else train

    def prepare(rows: Dataset) -> Dataset:
        """Tokenise as the text-classification example does, and keep its columns."""
        return rows.map(
            lambda batch: (
                tokenizer(
                    batch["text"],
                    truncation=True,
                    max_length=MAX_SEQ_LENGTH,
                    padding="max_length" if padded else False,
                )
                | {"labels": [[label] for label in batch["labels"]]}
            ),
            batched=True,
            remove_columns=["text"],
            keep_in_memory=True,
        )

    def make(rows: Dataset) -> Trainer:
        return Trainer(
            model=stock_model(task),
            args=transformers.TrainingArguments(
                **_training_options(task),
                train_sampling_strategy=strategy,
                length_column_name="length",
            ),
            train_dataset=rows,
            data_collator=None if padded else DataCollatorWithPadding(tokenizer),
        )

    return _train_and_score(make, prepare(shuffled), prepare(validation))


def ours(task: Task) -> dict[str, Any]:
    """This package's trainer."""
    tokenizer = sample_tokenizer()
    validation = task.rows("validation")

    def make(rows: Dataset) -> Trainer:
        return ToxicityTrainer(
            model=our_model(task),
            args=TrainingArguments(**_training_options(task), train_sampling_strategy="random"),
            processing_class=tokenizer,
            train_dataset=TokenRows(rows),
            eval_dataset=TokenRows(validation),
            clock=PhaseClock(),
        )

    return _train_and_score(make, task.rows("train"), validation, taken_as=TokenRows) | _padding(task)


def _training_options(task: Task) -> dict[str, Any]:
    return {
        "output_dir": f"{task.folder}/out",
        "num_train_epochs": 1,
        "per_device_train_batch_size": BATCH_SIZE,
        "per_device_eval_batch_size": BATCH_SIZE,
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


def _train_and_score(
    make: Callable[[Dataset], Trainer],
    train: Dataset,
    validation: Dataset,
    taken_as: Callable[[Dataset], Any] = lambda rows: rows,
) -> dict[str, Any]:
    warm_up = make(train.select(range(min(len(train), WARM_UP_ROWS))))
    warm_up.train()
    warm_up.predict(taken_as(validation.select(range(min(len(validation), WARM_UP_ROWS)))))
    trainer, stopwatch = make(train), Stopwatch()
    del warm_up
    trainer.add_callback(stopwatch)
    # Scoring is timed without metrics.
    trainer.compute_metrics = None
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    trainer.train()
    trained_memory = peak_memory()
    seconds, scored = timed(lambda: trainer.predict(taken_as(validation)))
    return {
        "training_seconds": stopwatch.seconds,
        "scoring_seconds": seconds,
        "trained_rows": len(train),
        "scored_rows": len(validation),
        "peak_memory_bytes": trained_memory,
        # The rows may come back in another order, and their labels with them.
        "auc": roc_auc_score(scored.label_ids.ravel() >= 0.5, scored.predictions.ravel()),
    }


def _padding(task: Task) -> dict[str, float]:
    """Share of padding among the positions that this package computes, in linear layers and in attention."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    layout = layout_for(our_model(task), device, pad_token_id=0)
    train, validation = task.rows("train"), task.rows("validation")
    lengths = np.array(train["length"][:])
    order = np.array(list(EpochSampler(lengths, BATCH_SIZE, task.seed, group_by_length=False)))
    batches = [np.sort(lengths[order[start : start + BATCH_SIZE]])[::-1] for start in range(0, len(order), BATCH_SIZE)]
    trained = np.array([layout.computed_positions(batch) for batch in batches]).sum(0)
    scored_lengths = np.array(validation["length"][:])
    scored_lengths = scored_lengths[longest_first(scored_lengths)]
    parts = fill_batches(scored_lengths, BATCH_SIZE * int(scored_lengths.max()), padded=not layout.packed)
    scored = np.array([layout.computed_positions(scored_lengths[part]) for part in parts]).sum(0)
    return {
        "padding_linear": 1 - lengths.sum() / trained[0],
        "padding_attention": 1 - lengths.sum() / trained[1],
        "scoring_padding_linear": 1 - scored_lengths.sum() / scored[0],
        "scoring_padding_attention": 1 - scored_lengths.sum() / scored[1],
    }


def published(task: Task) -> dict[str, Any]:
    """The published way: one row at a time through the tokenizer, padded to the limit, a plain loop in fp32."""
    model, tokenizer = stock_model(task), sample_tokenizer()
    rows = task.rows("published")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoded = [
        tokenizer(text, padding="max_length", truncation=True, max_length=MAX_SEQ_LENGTH) for text in rows["text"]
    ]
    data = TensorDataset(
        torch.tensor([row["input_ids"] for row in encoded]),
        torch.tensor([row["attention_mask"] for row in encoded]),
        torch.tensor(rows["labels"][:])[:, None],
    )
    model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5)

    def train_on(loader: DataLoader) -> None:
        for input_ids, attention_mask, labels in loader:
            loss = model(
                input_ids=input_ids.to(device), attention_mask=attention_mask.to(device), labels=labels.to(device)
            ).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    train_on(DataLoader(torch.utils.data.Subset(data, range(BATCH_SIZE)), BATCH_SIZE))
    seconds, _ = timed(lambda: train_on(DataLoader(data, BATCH_SIZE, shuffle=True)))
    return {"training_seconds": seconds, "trained_rows": len(rows), "peak_memory_bytes": peak_memory()}


def pipeline(task: Task) -> dict[str, Any]:
    """`transformers.pipeline`, fp32, in batches of 32, from text to scores."""
    classify = transformers.pipeline(
        "text-classification",
        model=stock_model(task),
        tokenizer=sample_tokenizer(),
        batch_size=BATCH_SIZE,
        truncation=True,
        max_length=MAX_SEQ_LENGTH,
        device=0 if torch.cuda.is_available() else -1,
    )
    texts = task.rows("validation")["text"][:]
    classify(texts[:BATCH_SIZE])
    seconds, _ = timed(lambda: classify(texts))
    return {"scoring_seconds": seconds, "scored_rows": len(texts), "peak_memory_bytes": peak_memory()}


# Name → function, and whether it gets this package's settings of threads and allocator.
CONTENDERS: dict[str, tuple[Callable[[Task], dict[str, Any]], bool]] = {
    "published": (published, False),
    "hf_padded": (lambda task: hf_trainer(task, padded=True, strategy="sequential"), True),
    "hf_dynamic": (lambda task: hf_trainer(task, padded=False, strategy="sequential"), True),
    "hf_best": (lambda task: hf_trainer(task, padded=False, strategy="group_by_length"), True),
    "pipeline": (pipeline, False),
    "ours": (ours, True),
}


def main() -> None:
    """Run one contender and print its JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=CONTENDERS)
    parser.add_argument("task", type=Path)
    arguments = parser.parse_args()
    run, tuned = CONTENDERS[arguments.name]
    if tuned:
        prepare_process()
    datasets.disable_progress_bars()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print(json.dumps(run(Task(**json.loads(arguments.task.read_text())))), flush=True)


if __name__ == "__main__":
    main()
