"""Show the progress of a scoring job: a progress bar on a terminal, otherwise a log line every half minute."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

from toxicity.core.console import h_mm_ss

SECONDS_BETWEEN_LINES = 30.0

logger = logging.getLogger(__name__)


class Progress:
    """Rows per second and time left of a job.

    The number of rows in a file is only known once it has been read, so the time left is estimated from input bytes.

    Args:
        total: input bytes of the whole job; 0 if unknown.
        processes: number of processes that share them, assumed to be equally fast.
        bar: progress bar to update; without one, progress is logged.
    """

    def __init__(self, total: int, processes: int = 1, bar: tqdm | None = None) -> None:
        self.rows, self.input_bytes = 0, 0.0  # that this process has scored, and that they took
        self._total, self._processes, self._bar = total, processes, bar
        self._started = self._last_line = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def add(self, rows: int, input_bytes: float) -> None:
        """Count rows that this process scored, and the input bytes that they took.

        When a shard fails, the rest of its bytes are added with 0 rows, as they need no more work.
        """
        self.rows += rows
        self.input_bytes += input_bytes
        if self._bar is not None:
            self._bar.set_postfix_str(self.line(), refresh=False)
            self._bar.update(min(input_bytes * self._processes, self._bar.total - self._bar.n))
        elif time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            logger.info(self.line())

    def line(self) -> str:
        """The progress in words, such as `12,000 rows scored, 310 rows/s, 0:04:10 left`."""
        seconds = max(self.seconds, 1e-9)
        line = f"{self.rows:,} rows scored, {self.rows / seconds:,.0f} rows/s"
        if self._processes > 1:
            line += f" in this of {self._processes} processes"
        done = min(1.0, self.input_bytes * self._processes / self._total) if self._total else 0.0
        return f"{line}, {h_mm_ss(seconds * (1 - done) / done)} left" if done else line


@contextmanager
def progress_shown(total: int, processes: int, is_main_process: bool) -> Iterator[Progress]:
    """A `Progress`, with a bar in the main process if standard error is a terminal."""
    hidden = not (is_main_process and sys.stderr.isatty())
    with tqdm(total=total, bar_format="{percentage:3.0f} % |{bar}| {postfix}", disable=hidden) as bar:
        yield Progress(total, processes, None if hidden else bar)
