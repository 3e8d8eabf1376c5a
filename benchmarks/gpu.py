"""Whether this package is right on a GPU, and how fast it is beside the HF Trainer, in one command.

    make bench-gpu                                    # 8 minutes at most
    python -m benchmarks.gpu --minutes 8 --name NAME
    python -m benchmarks.gpu --device cpu --tiny      # a minute or two: to see that it works

It needs no network, no sample and no Hub: the model is of BERT-base's shape with random weights, and rows are random
tokens with the lengths of real comments (`benchmarks.random_rows`). All figures and the machine go to
docs/gpu/NAME.json, from a CPU to runs/bench-gpu/NAME.json. The file is written anew after every step, so a run that is
cut off leaves what it had measured.

Steps, each in a process of its own: the machine; the checks of `benchmarks.gpu_checks`; a profile; then rounds, in
which every contender trains one epoch on the same rows and scores the same other rows. There are as many rounds as the
time has room for, three at most. If time is left, fp32 and torch.compile follow. Ratios are of the medians; above 1,
this package is faster. The last line of standard output is the result as JSON. The exit code is 1 if a check or a
contender failed, and 2 without a GPU.

It works with torch 2.11 and transformers 5.17, too. A machine that has torch, transformers, accelerate, scikit-learn,
pyarrow, pandas, psutil, matplotlib, jinja2 and xxhash may lack up to six packages, all pure Python, 1.2 MB. Fetch their
wheels where there is a network (for the Python of that machine, here 3.12) and carry them along with this folder:

    pip download --no-deps --python-version 3.12 --dest wheels datasets==5.2.0 evaluate==0.4.6 dill==0.4.1 \\
        multiprocess==0.70.19 requests==2.34.2 urllib3==2.8.0
    pip install --no-index --no-deps --target carried wheels/*.whl   # on that machine, in this folder
    PYTHONPATH=carried python -m benchmarks.gpu
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import math
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import torch

from benchmarks.gpu_report import contract, is_correct, print_report, reasons
from benchmarks.random_rows import random_rows
from benchmarks.sample import MAX_SEQ_LENGTH
from benchmarks.speed import summarise
from benchmarks.task import SHAPES, Task, quiet
from benchmarks.trainers import stock_model
from toxicity.core.errors import RequestError, refusals_exit_cleanly
from toxicity.core.files import write_text
from toxicity.hardware.availability import require_kernels_for, unused_gpu
from toxicity.models.flops import Encoder, encoder_of

CHECKS = ("packed_road", "loss_curves", "overflow", "resume")
# Those whose ratios are asked for come first, in case that there is no time for the last.
CONTENDERS = ("ours", "hf_padded", "hf_best", "hf_dynamic")
VERSIONS = ("torch", "transformers", "accelerate", "datasets", "tokenizers", "numpy")
# An optimiser step of the published protocol has 2 × 32 rows; here they fit into a card's memory at once.
BATCH_SIZE, EVAL_BATCH_SIZE, CHECK_BATCH_SIZE = 64, 256, 32
MOST_ROUNDS = 3
# The slowest contender is given as many rows as it trains on in this time at this share of the matrix products' rate.
SECONDS_OF_SLOWEST, SHARE_OF_PEAK = 8.0, 0.3
FEWEST_STEPS, MOST_STEPS = 12, 150
# A step is not started with less time left, in seconds: Python and torch take as long to start.
LEAST_SECONDS = 10.0
# Kept for the end: the processes that are cut off, the file, the tables.
LAST_SECONDS = 5.0
# A step that hangs takes no more than this share of the time from the others.
MOST_OF_TIME = 1 / 3
# What is kept of the log of a step that failed, in characters.
LOG_CHARACTERS = 4_000
# fp32 takes this many times fewer rows.
FP32_SHARE = 4


class Record:
    """The file of a run, and the time that the run may take.

    Args:
        minutes: since this process started.
        on_cpu: whether the steps shall not see a GPU.
    """

    def __init__(self, minutes: float, on_cpu: bool) -> None:
        # In a virtual machine, the clock may have been set since the system started, which this is counted from.
        self.started = min(max(psutil.Process().create_time(), time.time() - 60), time.time())
        self.deadline = self.started + 60 * minutes - LAST_SECONDS
        self.longest = 60 * minutes * MOST_OF_TIME
        # Of several cards, the first: the Trainer of transformers would use all.
        card = "" if on_cpu else os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
        self.environment = os.environ | {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": card, "PYTHONFAULTHANDLER": "1"}
        self.path: Path | None = None
        self.data: dict[str, Any] = {"schema_version": 1, "measured_at": datetime.now(UTC).isoformat("T", "seconds")}
        self.data |= {"complete": False, "steps": {}}

    def seconds_left(self) -> float:
        """Until the time limit."""
        return self.deadline - time.time()

    def write(self) -> None:
        """Write the file."""
        self.data["seconds"] = round(time.time() - self.started, 1)
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.path, json.dumps(self.data, indent=1) + "\n")

    def run(self, name: str, module: str, function: str, task: Task) -> dict[str, Any] | None:
        """Run a step in a process of its own, and note its seconds, or why it has no result, under its name.

        Returns:
            The JSON of its last line; None if it failed or had no time.
        """
        left, began = self.seconds_left(), time.time()
        print(f"{name}, {left:.0f} s are left", file=sys.stderr)
        result, note, log = None, {}, None
        if left < LEAST_SECONDS:
            note["left_out"] = "the time was over"
        else:
            command = [sys.executable, "-m", f"benchmarks.{module}", function, str(task.save())]
            # Libraries keep what they note beside the task: a home folder may be read-only.
            environment = self.environment | {"HF_HOME": f"{task.folder}/home"}
            limit = min(left, self.longest)
            try:
                done = subprocess.run(
                    command, capture_output=True, text=True, timeout=limit, env=environment, errors="replace"
                )
                note["seconds"] = round(time.time() - began, 1)
                if done.returncode:
                    log = done.stderr
                    note["failed"] = f"exit code {done.returncode}: {error_in(log)}"
                else:
                    result = json.loads(done.stdout.splitlines()[-1])
            except subprocess.TimeoutExpired as error:
                log = (error.stderr or b"").decode(errors="replace")
                hung = "failed" if limit < left else "left_out"
                note |= {"seconds": round(time.time() - began, 1), hung: f"it was cut off after {limit:.0f} s"}
        if log is not None:
            print(log, file=sys.stderr)
            note["log"] = log[-LOG_CHARACTERS:]
        self.data["steps"][name] = note
        self.write()
        return result


def error_in(log: str) -> str:
    """The first line of the last error in a log; its last line if there is none."""
    # Those of CUDA go on for several lines, of which the last ones are the same for all.
    errors = re.findall(r"^[\w.]+(?:Error|Exception|Failure)\b.*|^Fatal Python error.*|^error: .*", log, re.MULTILINE)
    return [*(log.strip().splitlines()[-1:] or ["it wrote no message"]), *errors][-1]


def main() -> int:
    """Run the benchmark, print its tables and its JSON line, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0, help="time limit of the whole run")
    parser.add_argument("--name", help="of the file; by default the machine's label")
    parser.add_argument("--folder", type=Path, help="of the file; docs/gpu, or runs/bench-gpu from a CPU")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--precision", choices=["no", "fp16", "bf16"], help="by default the best for this machine")
    parser.add_argument("--tiny", action="store_true", help="a tiny model and few rows: to see that it works")
    arguments = parser.parse_args()
    on_cpu = arguments.device == "cpu"
    if not on_cpu and not torch.cuda.is_available():
        raise RequestError(
            unused_gpu()
            or "this machine has no GPU that torch can use: run it on one that has, or on the processor, to see that "
            "it works: python -m benchmarks.gpu --device cpu --tiny"
        )
    require_kernels_for(torch.device(arguments.device))
    quiet()
    record = Record(arguments.minutes, on_cpu)
    with tempfile.TemporaryDirectory() as folder:
        shape = "tiny" if arguments.tiny else "bert-base"
        task = Task(folder, 1, "no", shape, None, CHECK_BATCH_SIZE, EVAL_BATCH_SIZE, random_tokens=True)
        found = record.run("machine", "gpu_profile", "machine", task)
        if found is None:
            print(f"error: {reasons(record.data['steps']['machine'])}", file=sys.stderr)
            return 1
        precision = arguments.precision or found["precision"]
        record.data |= {"name": arguments.name or found["machine"]["label"], **found, "precision": precision}
        record.data["versions"] = {name: importlib.metadata.version(name) for name in VERSIONS}
        record.data["versions"]["python"] = platform.python_version()
        if on_cpu or arguments.tiny:
            record.data["note"] = "To see that it works: on a CPU, or with a tiny model. These are no figures of a GPU."
        parent = arguments.folder or Path("runs/bench-gpu" if on_cpu or arguments.tiny else "docs/gpu")
        record.path = parent / f"{record.data['name']}.json"
        measure(record, dataclasses.replace(task, precision=precision), arguments.tiny)
    record.data["complete"] = not any({"left_out", "failed"} & note.keys() for note in record.data["steps"].values())
    record.write()
    print_report(record.data)
    print(json.dumps(contract(record.data) | {"correct": is_correct(record.data), "record": str(record.path)}))
    failed = is_correct(record.data) is False or any("failed" in note for note in record.data["steps"].values())
    return 1 if failed else 0


def measure(record: Record, task: Task, tiny: bool) -> None:
    """Run all steps but the first; `record.data` gets their results.

    Args:
        record: knows the machine.
        task: with the precision to measure in.
        tiny: whether it is only to be seen that everything works.
    """
    encoder = encoder_of(stock_model(task))
    if tiny:
        task, rows = dataclasses.replace(task, batch_size=8, eval_batch_size=32), 192
        speed_task = task
    else:
        rows = fitting_rows(encoder, record.data["matmul_flops"].get(task.precision))
        speed_task = dataclasses.replace(task, batch_size=BATCH_SIZE)
    # The checks need some rows, too.
    most = max(rows, 0 if tiny else 40 * CHECK_BATCH_SIZE)
    for seed, split in enumerate(("train", "validation")):
        random_rows(most, SHAPES[task.model_shape].get("vocab_size", 30_522), seed).save_to_disk(
            f"{task.folder}/{split}"
        )
    speed_task = dataclasses.replace(speed_task, limit=rows)
    record.data["task"] = {key: value for key, value in dataclasses.asdict(speed_task).items() if key != "folder"}
    record.data["task"] |= {"rows": rows, "tokens": tokens_of(speed_task), "max_seq_length": MAX_SEQ_LENGTH}

    for name in CHECKS:
        result = record.run(name, "gpu_checks", name, task)
        record.data.setdefault("correctness", {})[name] = result
    record.data["profile"] = record.run("profile", "gpu_profile", "profile", speed_task)
    run_rounds(record, speed_task, encoder, 1 if tiny else MOST_ROUNDS)
    if not tiny:
        run_extras(record, speed_task, encoder)


def fitting_rows(encoder: Encoder, flops_per_second: float | None) -> int:
    """Number of rows that a device trains on in about `SECONDS_OF_SLOWEST`, padded, in whole batches."""
    steps = FEWEST_STEPS
    if flops_per_second is not None:
        flops = encoder.training_flops(BATCH_SIZE, BATCH_SIZE * MAX_SEQ_LENGTH)
        steps = math.floor(flops_per_second * SHARE_OF_PEAK * SECONDS_OF_SLOWEST / flops)
    return BATCH_SIZE * min(max(steps, FEWEST_STEPS), MOST_STEPS)


def tokens_of(task: Task) -> dict[str, int]:
    """Tokens of the rows of a task, without padding."""
    return {split: int(sum(task.rows(split)["length"][:])) for split in ("train", "validation")}


def run_rounds(record: Record, task: Task, encoder: Encoder, rounds: int) -> None:
    """Run all contenders, round by round, while there is time for another round that is as long as the last one."""
    results: dict[str, list[dict[str, Any]]] = {}
    record.data["runs"] = results
    for number in range(1, rounds + 1):
        began = time.time()
        for name in CONTENDERS:
            one = dataclasses.replace(task, seed=number)
            result = record.run(f"round {number}: {name}", "baselines", name, one)
            if result is not None:
                results.setdefault(name, []).append(result)
                record.data["contenders"] = summarise(results, tokens_of(task), encoder)
                record.data["result"] = contract(record.data)
                record.data["rounds"] = number
                record.write()
        if record.seconds_left() < max(LEAST_SECONDS, 1.1 * (time.time() - began)):
            break


def run_extras(record: Record, task: Task, encoder: Encoder) -> None:
    """What is measured if time is left: fp32, with fewer rows, and this package with torch.compile."""
    less = dataclasses.replace(task, precision="no", limit=max(BATCH_SIZE, record.data["task"]["rows"] // FP32_SHARE))
    # Triton, which torch.compile makes kernels with, needs compute capability 7.0.
    can_compile = float(record.data["machine"].get("compute_capability") or 7) >= 7
    extras = [("compiled", "ours_compiled", task)] * can_compile
    if task.precision != "no":
        extras = [("fp32", "ours", less), ("fp32", "hf_best", less), *extras]
    last = [note.get("seconds", 0) for name, note in record.data["steps"].items() if name.startswith("round")]
    for kind, name, one in extras:
        if record.seconds_left() < 1.5 * max(last, default=0):
            record.data["extras_left_out"] = "little time was left"
            return
        # A shape that cannot be compiled is no failure of the rest, but of this step.
        result = record.run(f"{kind}: {name}", "baselines", name, one)
        if result is not None:
            runs = record.data.setdefault("extra_runs", {}).setdefault(kind, {})
            runs[name] = [result]
            record.data.setdefault("extras", {})[kind] = summarise(runs, tokens_of(one), encoder)
            record.write()


if __name__ == "__main__":
    with refusals_exit_cleanly():
        sys.exit(main())
