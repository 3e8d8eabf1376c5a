"""Memory of a process, as the operating system counts it.

    python -m benchmarks.memory LOG COMMAND…

runs a command with its standard error in the file LOG, and prints one JSON line: `seconds`, `exit_code`, and `peak_mb`,
the most memory in MiB that the process had, or one of its own that it waited for. The command is no child of a large
process, as its peak would begin with that of its parent.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import subprocess
import sys
import time
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


def main() -> None:
    """Run the command."""
    log, *command = sys.argv[1:]
    started = time.perf_counter()
    with Path(log).open("wb") as errors:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    # In KiB, but on macOS in bytes.
    peak = usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    result = {"seconds": time.perf_counter() - started, "exit_code": process.returncode, "peak_mb": peak}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
