"""Memory of a process, as the operating system counts it."""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any


def process_memory(field: str) -> int:
    """Bytes of memory of this process.

    Args:
        field: of Linux's `/proc/self/status`: `VmRSS` (resident now), `RssAnon` (of these, not mapped from files) or
            `VmHWM` (the highest `VmRSS` so far). Where there is no `/proc`, it is the highest in any case.
    """
    status = Path("/proc/self/status")
    if status.exists():
        # Preferred to getrusage, whose peak of a child process starts at that of its parent on Linux.
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(field)) << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def peak_mb_in_new_process(function: Callable[..., Any], *args: Any) -> float:
    """Peak memory in MiB of a new process that calls a module-level `function` with `args`."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_call_and_measure, function, args).result()


def _call_and_measure(function: Callable[..., Any], args: tuple[Any, ...]) -> float:
    function(*args)
    return process_memory("VmHWM") / 2**20
