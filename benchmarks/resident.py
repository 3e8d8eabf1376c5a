"""Memory that a process holds, as its operating system counts it."""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any


def resident_memory(field: str) -> int:
    """Bytes in memory now (`VmRSS`), of them not mapped from files (`RssAnon`), or at most so far (`VmHWM`).

    Without Linux's `/proc` it is the most so far, whatever was asked for.
    """
    status = Path("/proc/self/status")
    if status.exists():
        # On Linux the peak that getrusage gives to a child begins with that of its parent.
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(field)) << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def peak_mb_of_a_process(function: Callable[..., Any], *args: Any) -> float:
    """Most MB (2**20 bytes) in memory at a time in a new process that calls `function`, of a module, with `args`."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_peak_mb_after, function, args).result()


def _peak_mb_after(function: Callable[..., Any], args: tuple[Any, ...]) -> float:
    function(*args)
    return resident_memory("VmHWM") / 2**20
