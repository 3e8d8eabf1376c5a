"""Wall-clock time of each phase of a run: tokenizer, training, evaluation and so on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import torch


class PhaseClock:
    """Measures the seconds spent in each named phase, synchronising the device at every boundary.

    Phases may nest; time counts for the innermost one only, so an evaluation within the training phase is not counted
    as training. A phase that is entered again adds to its earlier time.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.seconds: dict[str, float] = defaultdict(float)
        self._open_phases: list[str] = []
        self._charged_until = 0.0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time of the `with` block to the phase `name`, also when the block raises."""
        self._charge_innermost()
        self._open_phases.append(name)
        try:
            yield
        finally:
            self._charge_innermost()
            self._open_phases.pop()

    def _charge_innermost(self) -> None:
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        now = perf_counter()
        if self._open_phases:
            self.seconds[self._open_phases[-1]] += now - self._charged_until
        self._charged_until = now
