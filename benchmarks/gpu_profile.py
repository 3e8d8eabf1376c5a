"""What one training step and one scored batch cost: kernels, time on the device, and waiting; for `benchmarks.gpu`.

    python -m benchmarks.gpu_profile NAME TASK.json

`machine` describes the machine, and measures its matrix products; `profile` runs this package's trainer. On a CPU,
which has no kernels to launch, numbers of them are None. Each prints one JSON line.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from transformers import TrainerCallback

from benchmarks.task import Task, device, now, run_named
from benchmarks.trainers import our_trainer
from toxicity.data.token_dataset import TokenRows
from toxicity.hardware.machine import describe_machine, measure_matmul_peak
from toxicity.hardware.precision import fastest_precision

# Steps before the profiler, which fill caches and compile kernels; those that are timed without it; one whose waits for
# the device are counted; then those that are profiled.
WARM_UP_STEPS, TIMED_STEPS, PROFILED_STEPS = 5, 6, 2
STEPS = WARM_UP_STEPS + TIMED_STEPS + 1 + PROFILED_STEPS
SLOWEST = 12


def machine(task: Task) -> dict[str, Any]:
    """The machine, its fastest precision, and the FLOP/s of matrix products in it and in fp32."""
    place = device()
    precision = fastest_precision(place)
    peaks = {name: measure_matmul_peak(place, name) for name in {precision, "no"}}
    return {"machine": describe_machine(place, 1), "precision": precision, "matmul_flops": peaks}


def profile_steps(task: Task) -> dict[str, Any]:
    """Profile training steps, and the scoring of the validation rows.

    Returns:
        `parts`, that a step is divided into; `training_part` and `step`, of `costs` for one part (forward and backward
        pass) and for a whole step with its optimiser; `scoring`, of all batches; `host_synchronisations`, how often
        the host waits for the device in a training step.
    """
    trainer = our_trainer(task, task.rows("train"), max_steps=STEPS)
    watch = StepWatch()
    trainer.add_callback(watch)
    parts, inner = [], trainer.training_step

    def training_step(model: torch.nn.Module, inputs: dict[str, Any], *more: Any, **options: Any) -> torch.Tensor:
        parts.append(len(inputs["parts"]) if "parts" in inputs else 1)
        return watch.measure("part", lambda: inner(model, inputs, *more, **options))

    trainer.training_step = training_step
    trainer.train()
    per_step = max(parts)
    rows = TokenRows(task.rows("validation"))
    trainer.predict(rows)
    started = now()
    trainer.predict(rows)
    seconds = now() - started
    with Trace() as trace:
        trainer.predict(rows)
    return {
        "parts": per_step,
        "training_part": watch.costs("part", per_step),
        "step": watch.costs("step", 1),
        "scoring": costs([trace.events], seconds, 1) | {"rows": len(rows)},
        "host_synchronisations": watch.synchronisations,
    }


class StepWatch(TrainerCallback):
    """Callback: times some steps of a training, counts the waits for the device of one, and profiles others."""

    def __init__(self) -> None:
        self.step = 0
        self.seconds: dict[str, list[float]] = {"part": [], "step": []}
        self.traces: dict[str, list[list[dict[str, Any]]]] = {"part": [], "step": []}
        self.synchronisations: int | None = None
        self._around: AbstractContextManager = nullcontext()
        self._started = 0.0

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        """Start the clock, or the profiler in the last step of all."""
        self.step += 1
        # Profilers cannot be nested: the last step is profiled as a whole, those before it by their parts.
        self._around = Trace() if self.step == STEPS else nullcontext()
        self._around.__enter__()
        if self._is_timed():
            self._started = now()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Stop it."""
        if self._is_timed():
            self.seconds["step"].append(now() - self._started)
        self._around.__exit__(None, None, None)
        if isinstance(self._around, Trace):
            self.traces["step"].append(self._around.events)

    def measure(self, name: str, call: Callable[[], Any]) -> Any:
        """Call, in the way that it is this step's turn to be measured."""
        if self._is_timed():
            # Every other step, as waiting for the device in the middle of one makes it slower.
            if self.step % 2:
                return call()
            started = now()
            result = call()
            self.seconds[name].append(now() - started)
            return result
        if self.step == WARM_UP_STEPS + TIMED_STEPS + 1:
            result, self.synchronisations = counted_synchronisations(call)
            return result
        if WARM_UP_STEPS + TIMED_STEPS + 1 < self.step < STEPS:
            with Trace() as trace:
                result = call()
            self.traces[name].append(trace.events)
            return result
        return call()

    def costs(self, name: str, times: int) -> dict[str, Any]:
        """`costs` of what was measured under a name, which consists of so many parts."""
        seconds = self.seconds[name][1::2] if name == "step" else self.seconds[name]
        return costs(self.traces[name], median(seconds or self.seconds[name]), times)

    def _is_timed(self) -> bool:
        return WARM_UP_STEPS < self.step <= WARM_UP_STEPS + TIMED_STEPS


class Trace:
    """Context manager: the events of torch's profiler, as it writes them for Chrome, as `events` after its end."""

    def __enter__(self) -> Trace:
        now()
        activities = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * torch.cuda.is_available()]
        self._profile = profile(activities=activities)
        self._profile.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        now()
        self._profile.__exit__(None, None, None)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trace.json"
            self._profile.export_chrome_trace(str(path))
            self.events: list[dict[str, Any]] = json.loads(path.read_text())["traceEvents"]


def costs(traces: list[list[dict[str, Any]]], seconds: float, parts: int) -> dict[str, Any]:
    """What one of several equal parts costs.

    Args:
        traces: events of the profiler, of one or more repetitions.
        seconds: of all parts of one repetition, without the profiler.
        parts: how many there are.

    Returns:
        `seconds`; `operators`, calls of torch's from the host; and, None without a GPU, `kernels` and `copies` on the
        device, `launches` by the host, `device_seconds`, in which it did anything, `device_busy`, the share of the
        seconds, and `slowest_kernels`, milliseconds by name.
    """
    counts = Counter(event.get("cat") for trace in traces for event in trace if event.get("ph") == "X")
    times = parts * len(traces)
    on_device = [
        [event for event in trace if event.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")] for trace in traces
    ]
    result = {
        "seconds": seconds / parts,
        "operators": counts["cpu_op"] / times,
        **dict.fromkeys(("kernels", "copies", "launches", "device_seconds", "device_busy", "slowest_kernels")),
    }
    if not any(on_device):
        return result
    busy = sum(map(busy_seconds, on_device)) / times
    launches = sum(
        "Launch" in event["name"]
        for trace in traces
        for event in trace
        if event.get("cat") in ("cuda_runtime", "cuda_driver")
    )
    by_name: Counter[str] = Counter()
    for event in (event for events in on_device for event in events):
        by_name[event["name"][:80]] += event["dur"] / 1000 / times
    return result | {
        "kernels": counts["kernel"] / times,
        "copies": (counts["gpu_memcpy"] + counts["gpu_memset"]) / times,
        "launches": launches / times,
        "device_seconds": busy,
        "device_busy": busy / (seconds / parts),
        "slowest_kernels": {name: round(spent, 4) for name, spent in by_name.most_common(SLOWEST)},
    }


def busy_seconds(events: list[dict[str, Any]]) -> float:
    """Seconds in which at least one of the events, whose times are in microseconds, was going on."""
    busy, end = 0.0, float("-inf")
    for event in sorted(events, key=lambda event: event["ts"]):
        stop = event["ts"] + event["dur"]
        busy += max(0.0, stop - max(end, event["ts"]))
        end = max(end, stop)
    return busy / 1e6


def counted_synchronisations(call: Callable[[], Any]) -> tuple[Any, int | None]:
    """The result of a call, and how often the host waited for the GPU in it; None without one."""
    if not torch.cuda.is_available():
        return call(), None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            result = call()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return result, sum("called a synchronizing" in str(warning.message) for warning in caught)


if __name__ == "__main__":
    run_named({"machine": machine, "profile": profile_steps}, __doc__)
