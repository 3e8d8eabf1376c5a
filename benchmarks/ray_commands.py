"""What `benchmarks.ray` measures: the scoring command with each engine, and bare Scorers in as many processes."""

from __future__ import annotations

import multiprocessing
import os
import re
import sys
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import NamedTuple

import pyarrow.csv

from benchmarks.rounds import run_module
from toxicity.core.schema import TEXT

# Models that score at a time, each with a core.
MODELS = 2
CONTENDERS = {"one": "one process", "two_processes": "two processes", "ray": "Ray"}
_PREDICT = ["-m", "toxicity.predict"]
COMMANDS = {
    "one": _PREDICT,
    "two_processes": ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(MODELS), *_PREDICT],
    "ray": [*_PREDICT, "--engine", "ray", "--ray_num_cpus", "1"],
}
# For the one to load its model that is ready later; if it fails, the other ends, too.
SECONDS_TO_LOAD = 300
# What the command says at its end.
SCORED = re.compile(r"Scored ([\d,]+) rows of [\d,]+ shards in [\d:]+, ([\d,]+) rows/s")


class Run(NamedTuple):
    """A run of the command."""

    rows: int
    scoring_seconds: float  # from when there was a model until all rows were scored
    seconds: float  # of the whole command
    peak_mb: float  # of its first process, which is the driver of Ray


def run_job(contender: str, model: str, shards: Path, output: Path) -> Run:
    """Score all files of a folder.

    Raises:
        SystemExit: if the command failed, with what it said.
    """
    log = output.with_name(f"{output.name}.log")
    flags = ["--model", model, "--input", str(shards), "--output", str(output)]
    done = run_module("benchmarks.memory", str(log), sys.executable, *COMMANDS[contender], *flags)
    said = log.read_text(errors="replace")
    found = SCORED.search(said)
    if done["exit_code"] or found is None:
        raise SystemExit(f"{CONTENDERS[contender]} failed with exit code {done['exit_code']}: {said[-2000:]}")
    rows, rate = (int(number.replace(",", "")) for number in found.groups())
    return Run(rows, rows / rate, done["seconds"], done["peak_mb"])


def bare_seconds(model: str, shards: Path) -> float:
    """Seconds that Scorers in processes of their own take for the comments of all files, one file a call."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(MODELS), context.SimpleQueue()
    processes = [
        context.Process(target=_score_part, args=(model, str(shards), part, barrier, results)) for part in range(MODELS)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise SystemExit("a bare Scorer failed, see above")
    return max(results.get() for _ in processes)


def _score_part(
    model: str, shards: str, part: int, barrier: Barrier, results: multiprocessing.queues.SimpleQueue
) -> None:
    os.environ["LOCAL_WORLD_SIZE"] = str(MODELS)
    from toxicity.hardware.process import prepare_process

    prepare_process(scoring=True)
    from toxicity.predict.scorer import Scorer

    files = sorted(Path(shards).iterdir())[part::MODELS]
    texts = [pyarrow.csv.read_csv(file)[TEXT].to_pylist() for file in files]
    scorer = Scorer(model)
    scorer(["warm up"])
    barrier.wait(SECONDS_TO_LOAD)
    started = time.perf_counter()
    for comments in texts:
        scorer(comments)
    results.put(time.perf_counter() - started)
