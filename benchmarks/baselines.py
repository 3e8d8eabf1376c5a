"""The contenders of `benchmarks.speed`: ways to train on and score the same rows, each run in a process of its own.

    python -m benchmarks.baselines NAME TASK.json

It prints one JSON line: times, memory, AUC, and as `peak` the FLOP/s of matrix products in this process and precision.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

# Before the imports that read it.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
import transformers
from datasets import Dataset
from sklearn.metrics import roc_auc_score
from torch.utils.data import DataLoader, TensorDataset
from transformers import Trainer

from benchmarks.sample import MAX_SEQ_LENGTH
from benchmarks.task import BATCH_SIZE, Stopwatch, Task, device, peak_memory, run_named, timed
from benchmarks.trainers import hf_trainer, order_of, our_trainer, rows_for_hf, stock_model
from toxicity.data.token_dataset import TokenRows
from toxicity.hardware.machine import measure_matmul_peak
from toxicity.models.packing import fill_batches, longest_first
from toxicity.training.trainer import ToxicityTrainer


def hf(task: Task, padded: bool, strategy: str) -> dict[str, Any]:
    """`transformers.Trainer`, with the padding and the sampling strategy given."""
    train, validation = task.rows("train"), task.rows("validation")
    if strategy == "sequential":
        train = train.select(order_of(task, train["length"][:]))  # so that both take the same steps
    return _train_and_score(
        task,
        lambda rows: hf_trainer(task, rows, padded, strategy),
        rows_for_hf(task, train, padded),
        rows_for_hf(task, validation, padded),
    )


def ours(task: Task, in_shares: bool = True, **options: Any) -> dict[str, Any]:
    """This package's trainer, which on a CPU computes a batch in shares side by side if `in_shares`."""
    trainers = []

    def make(rows: Dataset) -> Trainer:
        trainers.append(our_trainer(task, rows, **options))
        if not in_shares:
            trainers[-1].data_collator.threads = 1
        return trainers[-1]

    result = _train_and_score(
        task,
        make,
        task.rows("train"),
        task.rows("validation"),
        taken_as=lambda rows: TokenRows(task.with_more_labels(rows)),
    )
    return result | _padding(task, trainers[-1])


def _train_and_score(
    task: Task,
    make: Callable[[Dataset], Trainer],
    train: Dataset,
    validation: Dataset,
    taken_as: Callable[[Dataset], Any] = lambda rows: rows,
) -> dict[str, Any]:
    warm_up = make(train.select(range(min(len(train), task.warm_up_rows))))
    warm_up.train()
    warm_up.predict(taken_as(validation.select(range(min(len(validation), task.warm_up_rows)))))
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
        "auc": roc_auc_score(scored.label_ids[:, 0] >= 0.5, scored.predictions[:, 0]),
    }


def _padding(task: Task, trainer: ToxicityTrainer) -> dict[str, float]:
    """Share of padding in what this package computes: of the positions of linear layers, of the pairs of attention."""
    lengths = np.array(task.rows("train")["length"][:])
    order = np.array(order_of(task, lengths))
    batches = [order[start : start + task.batch_size] for start in range(0, len(order), task.batch_size)]
    trained = [lengths[batch][longest_first(lengths[batch])] for batch in batches]
    lengths = np.array(task.rows("validation")["length"][:])
    lengths, max_tokens = lengths[longest_first(lengths)], trainer.scoring_budget(trainer.eval_dataset)
    parts = fill_batches(lengths, max_tokens, padded=not trainer.scoring_layout.packed)
    scored = [lengths[part] for part in parts]
    shares = {}
    for phase, layout, batches in (("", trainer.layout, trained), ("scoring_", trainer.scoring_layout, scored)):
        tokens, pairs = (sum(int((batch.astype(np.int64) ** power).sum()) for batch in batches) for power in (1, 2))
        shares[f"{phase}padding_linear"] = 1 - tokens / sum(map(layout.computed_positions, batches))
        shares[f"{phase}padding_attention"] = 1 - pairs / sum(map(layout.computed_pairs, batches))
    return shares


def published(task: Task) -> dict[str, Any]:
    """The published way: one row at a time through the tokenizer, padded to the limit, a plain loop in fp32."""
    model, tokenizer = stock_model(task), task.tokenizer()
    rows = task.rows("published")
    place = device()
    encoded = [
        tokenizer(text, padding="max_length", truncation=True, max_length=MAX_SEQ_LENGTH) for text in rows["text"]
    ]
    data = TensorDataset(
        torch.tensor([row["input_ids"] for row in encoded]),
        torch.tensor([row["attention_mask"] for row in encoded]),
        torch.tensor(rows["labels"][:])[:, None],
    )
    model.to(place).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5)

    def train_on(loader: DataLoader) -> None:
        for input_ids, attention_mask, labels in loader:
            loss = model(
                input_ids=input_ids.to(place), attention_mask=attention_mask.to(place), labels=labels.to(place)
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
        tokenizer=task.tokenizer(),
        batch_size=BATCH_SIZE,
        truncation=True,
        max_length=MAX_SEQ_LENGTH,
        device=0 if torch.cuda.is_available() else -1,
    )
    texts = task.rows("validation")["text"][:]
    classify(texts[:BATCH_SIZE])
    seconds, _ = timed(lambda: classify(texts))
    return {"scoring_seconds": seconds, "scored_rows": len(texts), "peak_memory_bytes": peak_memory()}


CONTENDERS: dict[str, Callable[[Task], dict[str, Any]]] = {
    "published": published,
    "hf_padded": lambda task: hf(task, padded=True, strategy="sequential"),
    "hf_dynamic": lambda task: hf(task, padded=False, strategy="sequential"),
    "hf_best": lambda task: hf(task, padded=False, strategy="group_by_length"),
    "pipeline": pipeline,
    "ours": ours,
    "ours_one_share": lambda task: ours(task, in_shares=False),
    "ours_compiled": lambda task: ours(task, torch_compile=True),
    "ours_labels": ours,
}
# Those that do not get this package's settings of threads and allocator.
UNTUNED = ("published", "pipeline")


def measured(run: Callable[[Task], dict[str, Any]]) -> Callable[[Task], dict[str, Any]]:
    """A contender that measures matrix products after it ran."""
    return lambda task: run(task) | {"peak": measure_matmul_peak(device(), task.precision)}


if __name__ == "__main__":
    run_named({name: measured(run) for name, run in CONTENDERS.items()}, __doc__, UNTUNED)
