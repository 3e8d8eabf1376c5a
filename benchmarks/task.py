"""What all contenders of the speed benchmarks are given and measured by: rows, model, clock and memory."""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
import transformers
from datasets import Dataset
from transformers import BertConfig, PreTrainedTokenizerFast, TrainerCallback

from benchmarks.memory import process_memory
from benchmarks.random_rows import padding_tokenizer
from benchmarks.sample import sample_tokenizer
from toxicity.core.arguments import ModelArguments
from toxicity.core.schema import LABEL
from toxicity.hardware.process import prepare_process
from toxicity.models.classifier import SAMPLE_MODEL
from toxicity.training.targets import add_columns

BATCH_SIZE = 32
# Models with random weights, by their shape; what is not said is as in BERT-base.
SHAPES: dict[str, dict[str, int]] = {
    "bert-base": {},
    "tiny": {
        "vocab_size": 2048,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
    },
}


@dataclasses.dataclass
class Task:
    """The task of every contender.

    Attributes:
        folder: holds the saved datasets `train`, `validation` and `published`, with the columns `input_ids`, `length`
            and `labels`, and `text` unless `random_tokens`.
        seed: of the classification head, the order of rows and the dropout.
        precision: `no` (fp32), `fp16` or `bf16`.
        model_shape: `minilm`, pretrained, or one of `SHAPES` with random weights.
        config_overrides: as the flag of run_toxicity.py.
        batch_size: rows of an optimiser step.
        eval_batch_size: rows that are scored at a time, where nothing else decides it.
        random_tokens: whether the rows are of `random_rows`, so that there is no text and no need of a tokenizer.
        limit: most rows of a dataset that are used; None for all.
        labels: of this package's model.
    """

    folder: str
    seed: int
    precision: str
    model_shape: str
    config_overrides: str | None = None
    batch_size: int = BATCH_SIZE
    eval_batch_size: int = BATCH_SIZE
    random_tokens: bool = False
    limit: int | None = None
    labels: int = 1

    @property
    def warm_up_rows(self) -> int:
        """Rows that are trained on and scored before the clock starts."""
        return 2 * self.batch_size

    @property
    def minilm(self) -> ModelArguments:
        """The pretrained checkpoint of the shape `minilm`."""
        return ModelArguments(SAMPLE_MODEL, config_overrides=self.config_overrides)

    def save(self) -> Path:
        """Write the task as JSON into its folder, for a process of its own, and return the path."""
        path = Path(self.folder) / "task.json"
        path.write_text(json.dumps(dataclasses.asdict(self)))
        return path

    def random_config(self) -> BertConfig:
        """Config of a model with random weights."""
        config = BertConfig(
            num_labels=self.labels, problem_type="multi_label_classification", **SHAPES[self.model_shape]
        )
        if self.config_overrides:
            config.update_from_string(self.config_overrides)
        return config

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer of the rows, or one that only pads."""
        return padding_tokenizer() if self.random_tokens else sample_tokenizer()

    def rows(self, split: str) -> Dataset:
        """Load a dataset of the folder."""
        rows = Dataset.load_from_disk(str(Path(self.folder) / split))
        return rows if self.limit is None else rows.select(range(min(len(rows), self.limit)))

    @property
    def label_names(self) -> list[str]:
        """Names of the labels of this package's model."""
        return [LABEL, *(f"label {number}" for number in range(2, self.labels + 1))]

    def with_more_labels(self, rows: Dataset) -> Dataset:
        """The rows with as many labels as this task has.

        Those after the first are that one, wrong in one row in ten and unknown in another: they only cost time.
        """
        if self.labels == 1:
            return rows
        rng = np.random.default_rng(self.seed)
        first = np.array(rows["labels"][:], dtype=np.float32)[:, None]
        chance = rng.random((len(rows), self.labels - 1))
        others = np.where(chance < 0.1, 1 - first, np.where(chance < 0.2, np.float32(np.nan), first))
        return add_columns(rows.remove_columns("labels"), {"labels": np.concatenate([first, others], axis=1)})


class Stopwatch(TrainerCallback):
    """Callback: seconds of a training loop, from before its first batch to after its last step."""

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """Start."""
        self.started = now()

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        """Stop."""
        self.seconds = now() - self.started


def run_named(
    functions: Mapping[str, Callable[[Task], dict[str, Any]]], description: str | None, untuned: Sequence[str] = ()
) -> None:
    """The command line `NAME TASK.json`: call a function with a saved task, and print its result as one JSON line.

    Those that are not `untuned` get this package's settings of threads and allocator.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=functions)
    parser.add_argument("task", type=Path)
    arguments = parser.parse_args()
    task = Task(**json.loads(arguments.task.read_text()))
    if arguments.name not in untuned:
        prepare_process()
    if task.model_shape == "tiny":
        torch.set_num_threads(1)  # matrices this small gain nothing from a second thread
    quiet()
    print(json.dumps(functions[arguments.name](task)), flush=True)


def quiet() -> None:
    """No progress bars, and no warnings of transformers."""
    datasets.disable_progress_bars()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def device() -> torch.device:
    """The GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def now() -> float:
    """Seconds of a clock, read once the device has finished its queue."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Call, and return the seconds it took and its result."""
    started = now()
    result = call()
    return now() - started, result


def peak_memory() -> int:
    """Peak bytes of this process: on the GPU if there is one, else in main memory."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else process_memory("VmHWM")
