"""What all contenders of `benchmarks.predict` are given: comments as text and as token ids, models, and how to time."""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from toxicity.evaluation.calibration import Calibration

SHORT_TOKENS = 6
# Contenders that take more than twice the time of the others score every fourth comment, longest first.
SLOW_SHARE = 4
# Settings are tried on every eighth comment, longest first; so many warm a contender up, too.
TRIED_SHARE = 8

# From token ids of several comments, the longest one first, to their logits, float `(rows,)`.
Compute = Callable[[Sequence[np.ndarray]], np.ndarray]


@dataclass
class ScoringTask:
    """The task of every contender.

    Attributes:
        folder: holds `comments.csv` with the columns `id` and `text`, `tokens.npz`, and the converted models.
        model: folder of the trained model.
        calibration: what makes probabilities of logits, as `Calibration.to_config` saves it.
        cores: number of cores to compute on.
    """

    folder: str
    model: str
    calibration: dict[str, Any]
    cores: int

    def path(self, name: str) -> Path:
        """A file of the folder."""
        return Path(self.folder) / name

    @property
    def export(self) -> str:
        """Folder of this package's int8 export of the model."""
        return str(self.path("export/int8"))

    def save(self) -> Path:
        """Write the task as JSON into its folder, and return the path."""
        self.path("task.json").write_text(json.dumps(asdict(self)))
        return self.path("task.json")

    def save_tokens(self, tokens: Sequence[np.ndarray], labels: np.ndarray) -> None:
        """Keep the token ids of all comments, in the order of `comments.csv`, and their labels (0 or 1)."""
        lengths = np.array([len(row) for row in tokens])
        np.savez(self.path("tokens.npz"), ids=np.concatenate(tokens), lengths=lengths, labels=labels)

    def load_tokens(self) -> tuple[list[np.ndarray], np.ndarray]:
        """What `save_tokens` kept: the token ids, int64, of all comments, and their labels."""
        kept = np.load(self.path("tokens.npz"))
        return np.split(kept["ids"].astype(np.int64), np.cumsum(kept["lengths"])[:-1]), kept["labels"]


def longest_first(tokens: Sequence[np.ndarray]) -> np.ndarray:
    """Indices of the comments, int64 `(rows,)`, those with the most tokens first."""
    return np.argsort([-len(row) for row in tokens], kind="stable")


def cut_short(tokens: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Comments of `SHORT_TOKENS` tokens, cut from longer ones, which have as many tokens in total as all of these."""
    longer = [row for row in tokens if len(row) >= SHORT_TOKENS]
    short = [np.append(row[: SHORT_TOKENS - 1], row[-1]) for row in longer]
    count = sum(map(len, tokens)) // SHORT_TOKENS
    return list(itertools.islice(itertools.cycle(short), count))


def fill_batches(rows: Sequence[np.ndarray], places: int) -> list[Sequence[np.ndarray]]:
    """Cut rows, longest first, into batches of at most so many places, padding counted."""
    batches, start = [], 0
    while start < len(rows):
        stop = start + max(1, places // len(rows[start]))
        batches.append(rows[start:stop])
        start = stop
    return batches


def padded(rows: Sequence[np.ndarray], multiple: int, dtype: type = np.int64) -> tuple[np.ndarray, np.ndarray]:
    """Token ids and attention mask `(rows, places)`; places are a multiple of that number."""
    lengths = np.array([len(row) for row in rows])
    width = -(-lengths.max() // multiple) * multiple
    mask = np.arange(width) < lengths[:, None]
    ids = np.zeros(mask.shape, dtype)
    ids[mask] = np.concatenate(rows)
    return ids, mask.astype(dtype)


def best_settings(
    task: ScoringTask, name: str, choices: Mapping[str, Sequence[Any]], run: Callable[..., Any]
) -> dict[str, Any]:
    """The settings with which `run(**settings)` is the fastest on its second call.

    Beginning with the first choice of each, one setting after the other is varied, and the best one kept. What was
    found is written to the folder of the task, where the contender's next process finds it.
    """
    path = task.path(f"{name}.settings.json")
    if not path.exists():
        best, fewest = {setting: values[0] for setting, values in choices.items()}, float("inf")
        for setting, values in choices.items():
            for value in values:
                tried = best | {setting: value}
                if tried == best and fewest < float("inf"):
                    continue
                run(**tried)
                seconds, _ = timed(lambda tried=tried: run(**tried))
                if seconds < fewest:
                    best, fewest = tried, seconds
        path.write_text(json.dumps(best))
    return json.loads(path.read_text())


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Call, and return the seconds it took and its result."""
    started = time.perf_counter()
    result = call()
    return time.perf_counter() - started, result


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def probability(logits: np.ndarray, calibration: Mapping[str, Any]) -> np.ndarray:
    """Calibrated probabilities, float64."""
    return Calibration.from_config(calibration).probability(logits)


def logit(probabilities: np.ndarray) -> np.ndarray:
    """Logits of probabilities that were not calibrated."""
    kept = np.clip(np.asarray(probabilities, np.float64), 1e-7, 1 - 1e-7)
    return np.log(kept / (1 - kept))


def environment(without_bf16: bool) -> dict[str, str]:
    """Environment of a contender; on request with bf16 hidden from oneDNN, which torch and OpenVINO compute with."""
    hidden = dict.fromkeys(("DNNL_MAX_CPU_ISA", "ONEDNN_MAX_CPU_ISA"), "AVX512_CORE_VNNI") if without_bf16 else {}
    return os.environ | {"HF_HUB_OFFLINE": "1"} | hidden
