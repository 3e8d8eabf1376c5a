"""Texts of requests that arrive together are scored together.

No request waits for others to come: what arrives while batches are computed is the next batch.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic, perf_counter

import numpy as np

from toxicity.predict.scorer import Scorer
from toxicity.serve.errors import ApiError

# Tokens of a batch on a processor. A batch of one core of the demo's machine takes some 0.05 s, which who comes next
# has to wait; twice as many made it 4 % faster.
CPU_TOKENS = 1_024
CHARACTERS_PER_TOKEN = 4  # in English
# Of the scorer of a service: a core each, until more threads would mostly wait for Python's lock; see `--workers`.
STREAMS = 4
# Seconds of work that may be due before a request is refused, which so is the longest that a text waits; and those that
# may wait in all before another request of more than a batch is refused, whose texts have their turn later: it would
# hardly be answered in time.
MOST_DUE, MOST_WAITING = 2.0, 10.0
# Tokens a second that are assumed at first, and over how many seconds of scoring they are measured.
FIRST_RATE, MEASURED_SECONDS = 10_000.0, 5.0


class _Request:
    """Texts that wait for one answer, which several threads may score."""

    def __init__(self, texts: int) -> None:
        self.future: Future[np.ndarray] = Future()
        self._left = texts
        self._scores: list[np.ndarray | None] = [None] * texts
        self._lock = threading.Lock()

    def add(self, place: int, scores: np.ndarray) -> None:
        """Keep the scores of a text; the last one answers the request."""
        with self._lock:
            self._scores[place] = scores
            self._left -= 1
            if not self._left and self._waits():
                self.future.set_result(np.stack(self._scores))

    def fail(self, error: BaseException) -> None:
        """Answer the request with an error."""
        with self._lock:
            if self._waits():
                self.future.set_exception(error)

    def _waits(self) -> bool:
        return not self.future.done() and self.future.set_running_or_notify_cancel()


@dataclass(order=True)
class _Text:
    """A text that waits.

    Attributes:
        due: when its turn comes, on the clock of `time.monotonic`: when the request arrived, and where that is more
            than a batch, as much later as its texts before this one take. So a few texts need not wait for the thousand
            of another request.
        number: of its arrival, which decides between equals.
        tokens: an estimate.
        place: in its request.
    """

    due: float
    number: int
    tokens: float = field(compare=False)
    text: str = field(compare=False)
    place: int = field(compare=False)
    request: _Request = field(compare=False)


class Batcher:
    """Scores the texts of many requests in as many threads as the scorer has streams.

    Args:
        scorer: what scores.
        on_batch: called after each batch, in the thread that scored it, with its texts, its tokens, and the seconds
            that it took.
    """

    def __init__(self, scorer: Scorer, on_batch: Callable[[int, int, float], None] | None = None) -> None:
        self._scorer, self._on_batch = scorer, on_batch
        on_cpu = scorer.device.type == "cpu"
        self._batch_tokens = min(scorer.tokens_per_batch, CPU_TOKENS) if on_cpu else scorer.tokens_per_batch
        self._threads = ThreadPoolExecutor(scorer.streams, thread_name_prefix="scorer")
        self._lock = threading.Lock()
        self._running = 0  # threads that score
        self._arrived = 0  # texts so far
        # Texts whose turn has come, in that order, and those whose turn comes later; tokens of both.
        self._due: deque[_Text] = deque()
        self._later: list[_Text] = []
        self._due_tokens = self._later_tokens = 0.0
        # Of batches, the last ones weighing most.
        self._tokens, self._seconds = FIRST_RATE, float(scorer.streams)

    @property
    def waiting(self) -> int:
        """Texts that wait to be scored."""
        return len(self._due) + len(self._later)

    async def score(self, texts: Sequence[str]) -> np.ndarray:
        """Calibrated probabilities, float64 `(texts, labels)`, the columns in the order of `scorer.calibrations`.

        Texts that wait yet when this is cancelled are not scored.

        Raises:
            ApiError: 429 if too many texts wait already.
        """
        return await asyncio.wrap_future(self._submit(texts))

    def score_in_thread(self, texts: Sequence[str]) -> np.ndarray:
        """The same for a caller in another thread, who waits."""
        return self._submit(texts).result()

    def _submit(self, texts: Sequence[str]) -> Future[np.ndarray]:
        request = _Request(len(texts))
        if not texts:
            request.future.set_result(np.empty((0, 1 + len(self._scorer.subtypes))))
            return request.future
        limit = self._scorer.max_seq_length
        tokens = [min(2 + len(text) / CHARACTERS_PER_TOKEN, limit) for text in texts]
        with self._lock:
            now = monotonic()
            self._move_due(now)
            rate = self._scorer.streams * self._tokens / self._seconds
            self._refuse_excess(rate, sum(tokens))
            # What is no more than a batch is due at once: it makes others wait no longer, and counts as what it is.
            seconds_per_token = 1 / rate if sum(tokens) > self._batch_tokens else 0.0
            due = now
            for place, (text, count) in enumerate(zip(texts, tokens, strict=True)):
                self._arrived += 1
                heapq.heappush(self._later, _Text(due, self._arrived, count, text, place, request))
                self._later_tokens += count
                due += count * seconds_per_token
            self._move_due(now)
            more = min(self._scorer.streams - self._running, len(texts))
            self._running += more
        for _ in range(more):
            self._threads.submit(self._score_all)
        return request.future

    def _refuse_excess(self, rate: float, tokens: float) -> None:
        due, waiting = self._due_tokens / rate, (self._due_tokens + self._later_tokens) / rate
        excess = due - MOST_DUE
        if tokens > self._batch_tokens:
            excess = max(excess, waiting - MOST_WAITING)
        if excess > 0:
            # By then there is room again, and what is due now is done.
            after = str(math.ceil(max(excess, due)))
            sentence = f"Too many texts wait to be scored: try again in {after} s."
            raise ApiError(429, sentence, headers={"Retry-After": after})

    def _move_due(self, now: float) -> None:
        while self._later and self._later[0].due <= now:
            entry = heapq.heappop(self._later)
            self._later_tokens -= entry.tokens
            self._due.append(entry)
            self._due_tokens += entry.tokens

    def _score_all(self) -> None:
        while batch := self._next_batch():
            started = perf_counter()
            tokens = self._score(batch)
            seconds = perf_counter() - started
            with self._lock:
                kept = math.exp(-seconds / MEASURED_SECONDS)
                self._tokens = kept * self._tokens + sum(entry.tokens for entry in batch)
                self._seconds = kept * self._seconds + seconds
            if self._on_batch is not None:
                # Numbers that cannot be kept, as where a disk is full, are no reason to stop.
                with suppress(Exception):
                    self._on_batch(len(batch), tokens, seconds)

    def _next_batch(self) -> list[_Text]:
        """Texts to score now, whose requests were not cancelled; none: this thread ends."""
        batch: list[_Text] = []
        tokens = 0.0
        with self._lock:
            self._move_due(monotonic())
            while self._due or self._later:
                entry = self._due[0] if self._due else self._later[0]
                dropped = entry.request.future.done()
                if batch and not dropped and tokens + entry.tokens > self._batch_tokens:
                    break
                if self._due:
                    self._due.popleft()
                    self._due_tokens -= entry.tokens
                else:
                    heapq.heappop(self._later)
                    self._later_tokens -= entry.tokens
                if not dropped:
                    batch.append(entry)
                    tokens += entry.tokens
            if not batch:
                self._running -= 1
        return batch

    def _score(self, batch: list[_Text]) -> int:
        """Score a batch and answer the requests that have all their texts; returns its tokens, padding not counted."""
        try:
            rows = self._scorer.rows([entry.text for entry in batch])
            scores = self._scorer.probabilities(rows)
        except BaseException as error:  # a panic of the tokenizer, which is written in Rust, is no Exception
            if len(batch) > 1:  # so that a text fails nobody else's request
                return sum(self._score([entry]) for entry in batch)
            batch[0].request.fail(error)
            return 0
        for entry, row in zip(batch, scores, strict=True):
            entry.request.add(entry.place, row)
        return int(rows.lengths.sum())
