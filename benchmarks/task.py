"""What all contenders of `benchmarks.speed` are given and measured by: rows, model, clock and memory."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import TrainerCallback

from benchmarks.memory import process_memory
from toxicity.core.arguments import ModelArguments
from toxicity.models.classifier import SAMPLE_MODEL

BATCH_SIZE = 32


WARM_UP_ROWS = 2 * BATCH_SIZE


@dataclasses.dataclass
class Task:
    """The task of every contender.

    Attributes:
        folder: holds the saved datasets `train`, `validation` and `published`, with the columns `text`, `input_ids`,
            `length` and `labels`.
        seed: of the classification head, the order of rows and the dropout.
        precision: `no` (fp32), `fp16` or `bf16`.
        model_shape: `minilm`, pretrained, or `bert-base` with random weights.
        config_overrides: as the flag of run_toxicity.py.
    """

    folder: str
    seed: int
    precision: str
    model_shape: str
    config_overrides: str | None = None

    @property
    def minilm(self) -> ModelArguments:
        """The pretrained checkpoint of the shape `minilm`."""
        return ModelArguments(SAMPLE_MODEL, config_overrides=self.config_overrides)

    def rows(self, split: str) -> Dataset:
        """Load a dataset of the folder."""
        return Dataset.load_from_disk(str(Path(self.folder) / split))


class Stopwatch(TrainerCallback):
    """Callback: seconds of a training loop, from before its first batch to after its last step."""

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """Start."""
        self.started = now()

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        """Stop."""
        self.seconds = now() - self.started


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
