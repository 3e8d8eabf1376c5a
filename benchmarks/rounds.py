"""Interleaved timing: every round runs each contender once, so that a disturbance of the machine meets all of them.

Contenders that would disturb each other run in processes of their own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any


def time_in_rounds(
    contenders: Mapping[str, Callable[[], Any]], labels: Mapping[str, str], rounds: int
) -> tuple[dict[str, float], dict[str, Any]]:
    """Call every contender once in every round.

    Args:
        contenders: by name.
        labels: how each contender is called in the progress lines on standard error.
        rounds: number of rounds.

    Returns:
        By name: the median of the seconds that a call took, and the return value of the last call.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    results = {}
    for round_number in range(1, rounds + 1):
        for name, run in contenders.items():
            print(f"round {round_number} of {rounds}: {labels[name]}", file=sys.stderr)
            started = time.perf_counter()
            results[name] = run()
            seconds[name].append(time.perf_counter() - started)
    return {name: median(values) for name, values in seconds.items()}, results


def run_module(*command: str) -> dict[str, Any]:
    """Run a module in a new process, and return the JSON of its last line."""
    done = subprocess.run([sys.executable, "-m", *command], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])
