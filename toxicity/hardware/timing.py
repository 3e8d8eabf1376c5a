"""A clock for the phases of a run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import torch


class PhaseClock:
    """Seconds spent in each named phase, the device synchronised at every boundary.

    Phases nest, and time is charged to the innermost one alone: evaluation inside training stops the clock of
    training. A phase that is entered again goes on where it stopped.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.seconds: dict[str, float] = defaultdict(float)
        self._open_phases: list[str] = []
        self._charged_until = 0.0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Charge the time of the `with` block to `name`, also when the block raises."""
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
