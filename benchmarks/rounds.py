"""Contenders timed one after the other in every round, so that what disturbs the machine disturbs all of them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any


def time_in_rounds(
    contenders: Mapping[str, Callable[[], Any]], labels: Mapping[str, str], rounds: int
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Call every contender in every round.

    Args:
        contenders: by name.
        labels: what standard error is told of each.
        rounds: how often each is called.

    Returns:
        Seconds of each round, and what the last call gave, by name.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    results = {}
    for round_number in range(rounds):
        for name, run in contenders.items():
            print(f"round {round_number + 1} of {rounds}: {labels[name]}", file=sys.stderr)
            started = time.perf_counter()
            results[name] = run()
            seconds[name].append(time.perf_counter() - started)
    return seconds, results
