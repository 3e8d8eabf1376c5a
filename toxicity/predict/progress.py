"""How far a job is, for whoever waits for it: a bar on a terminal, a line now and then elsewhere."""

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
    """Rows a second and the time left; `rows` and `input_bytes` are those that are done.

    Rows are not counted before they are read, so the time left goes by the bytes of the inputs.

    Args:
        total: bytes there are to do, by all processes; 0 where nobody knows.
        processes: how many share them, each about as fast as this one.
        bar: on a terminal, shown instead of log lines.
    """

    def __init__(self, total: int, processes: int = 1, bar: tqdm | None = None) -> None:
        self.rows, self.input_bytes = 0, 0.0
        self._total, self._processes, self._bar = total, processes, bar
        self._started = self._told = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._started

    def add(self, rows: int, input_bytes: float) -> None:
        """Tell that rows were scored, by this process, which took so many bytes of the input.

        Of a shard that fails, the bytes count as those of no rows: there is nothing left to do about them.
        """
        self.rows += rows
        self.input_bytes += input_bytes
        if self._bar is not None:
            self._bar.set_postfix_str(self.line(), refresh=False)
            self._bar.update(min(input_bytes * self._processes, self._bar.total - self._bar.n))
        elif time.monotonic() - self._told >= SECONDS_BETWEEN_LINES:
            self._told = time.monotonic()
            logger.info(self.line())

    def line(self) -> str:
        """Such as `12,000 rows scored, 310 rows/s, 0:04:10 left`."""
        seconds = max(self.seconds, 1e-9)
        line = f"{self.rows:,} rows scored, {self.rows / seconds:,.0f} rows/s"
        if self._processes > 1:
            line += f" in this of {self._processes} processes"
        done = min(1.0, self.input_bytes * self._processes / self._total) if self._total else 0.0
        return f"{line}, {h_mm_ss(seconds * (1 - done) / done)} left" if done else line


@contextmanager
def progress_shown(total: int, processes: int, is_main_process: bool) -> Iterator[Progress]:
    """A `Progress` with a bar, if the main process writes to a terminal."""
    if not (is_main_process and sys.stderr.isatty()):
        yield Progress(total, processes)
        return
    with tqdm(total=total, bar_format="{percentage:3.0f} % |{bar}| {postfix}", file=sys.stderr) as bar:
        yield Progress(total, processes, bar)
