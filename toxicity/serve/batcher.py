"""Texts of requests that arrive together are scored together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from toxicity.predict.scorer import Scorer


class Batcher:
    """Scores the texts of many requests in one thread, as few batches as their arrival allows."""

    waiting = 0  # texts

    def __init__(self, scorer: Scorer, on_batch: Callable[[int, int, float], None] | None = None) -> None:
        self._scorer, self._on_batch = scorer, on_batch
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="scorer")

    async def score(self, texts: Sequence[str]) -> np.ndarray:
        """Calibrated probabilities, float64 `(texts, labels)`, the columns in the order of `scorer.calibrations`.

        Raises:
            ApiError: 429 if too many texts wait already.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self.score_in_thread, texts)

    def score_in_thread(self, texts: Sequence[str]) -> np.ndarray:
        """The same for a caller in another thread, who waits."""
        start, tokens = time.perf_counter(), self._scorer.tokenize(texts)
        scores = self._scorer.probabilities(tokens)
        if self._on_batch:
            self._on_batch(len(texts), sum(tokens["length"].to_pylist()), time.perf_counter() - start)
        return scores
