"""Scoring on Ray against the processes of a launcher, on one machine with a model for each of two cores.

    make bench-ray                                      # 10 minutes on two cores

All of it runs the command, `python -m toxicity.predict`, on two cores alone, in processes of its own. First one process
scores 20 shards of the sample's comments, which says what the outputs are; then every round scores them with two
processes of torchrun and with Ray. Rates are of the scoring phase, as the command tells it at its end, which begins
when Ray has a first model; the whole command includes the start of Python, Ray and the models. Small shards of a few
comments are scored with Ray, with two processes, and by two bare Scorers, a shard a call. The memory is that of the
driver alone, with a model for the actors whose time is negligible.

Keys of the JSON line, the last one of standard output:

    vs_two_processes           rate of Ray / rate of two processes, of the scoring phase; medians
    vs_two_processes_command   the same of the whole command
    vs_one_process             rate of Ray / rate of one process with both cores
    same_bytes                 whether Ray leaves the files of one process, the manifest too, in every round
    overhead_ms_a_shard        milliseconds that Ray's scoring phase takes a small shard, less those of the bare Scorers
    overhead_ms_a_shard_two_processes   the same of two processes
    driver_memory_growth_mb    peak memory of the driver with 10,000 shards, less that with 10; MiB
    driver_memory_mb           both, by number of shards
    rows_per_second            of each contender in the scoring phase, medians
    seconds                    of each contender's whole command, medians; that of one process converts the model, too
    small_shard_ms             milliseconds a small shard takes each contender, and the bare Scorers, medians
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow as pa
import pyarrow.csv

from benchmarks.ray_commands import CONTENDERS, MODELS, Run, bare_seconds, run_job
from benchmarks.sample import save_tiny_model
from benchmarks.task import device
from toxicity.core.errors import RequestError, refusals_exit_cleanly
from toxicity.core.markdown import markdown_table
from toxicity.core.schema import ID, TEXT
from toxicity.data.sources import read_sample
from toxicity.hardware.cpu import usable_cores
from toxicity.hardware.machine import describe_machine

SHARDS = 20
MEMORY_SHARDS = (10, 10_000)


def main() -> None:
    """Run the benchmark and print its table and its JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="runs/sample", help="folder of a trained model; `make demo` makes one")
    parser.add_argument("--rows", type=int, default=1_000, help=f"comments of each of the {SHARDS} shards")
    parser.add_argument("--rounds", type=int, default=3, help="how often they are scored")
    parser.add_argument("--small_shards", type=int, default=1_000, help="how many shards of a few comments there are")
    parser.add_argument("--small_rows", type=int, default=4, help="comments of each of them")
    parser.add_argument("--small_rounds", type=int, default=3, help="how often these are scored")
    parser.add_argument("--memory_shards", type=int, nargs=2, default=MEMORY_SHARDS, help="shards for the memory")
    arguments = parser.parse_args()
    if not (Path(arguments.model) / "config.json").is_file():
        raise RequestError(f"there is no trained model in {arguments.model}: run `make demo` first, it takes minutes.")
    if usable_cores() < MODELS:
        raise RequestError(f"a model for each of {MODELS} cores needs as many, and there is {usable_cores()}.")
    # What is started here inherits these, and works on this machine's first cores alone.
    os.environ |= {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    os.environ.pop("RAY_ADDRESS", None)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:MODELS])

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # What is converted for the benchmark is no concern of the user's cache.
        os.environ["HF_ASSETS_CACHE"] = f"{folder}/assets"
        model, texts = str(Path(arguments.model).resolve()), read_sample().table[TEXT].to_pylist()
        shards = write_shards(folder / "shards", texts, SHARDS, arguments.rows)
        runs, same_bytes = score_in_rounds(folder, model, shards, arguments.rounds)
        small = write_shards(folder / "small", texts, arguments.small_shards, arguments.small_rows)
        small_ms = small_shards_in_rounds(folder, model, small, arguments.small_rounds)
        memory = memory_of_driver(folder, texts, sorted(arguments.memory_shards))
    result = summarise(runs, same_bytes, small_ms, memory)
    machine = describe_machine(device(), 1)
    print(
        f"{SHARDS} shards of {arguments.rows:,} comments, {MODELS} models of one core each, on "
        f"{machine['device_name']} (Ray {importlib.metadata.version('ray')}, torch {machine['torch']}); medians of "
        f"{arguments.rounds} rounds. Small: {arguments.small_shards:,} shards of {arguments.small_rows} comments.\n"
    )
    print_table(result)
    told = ", ".join(f"{shards:,} shards: {peak:,.0f} MB" for shards, peak in memory.items())
    print(f"\nThe driver at its peak with {told}. Outputs are those of one process: {'yes' if same_bytes else 'NO'}.\n")
    print(json.dumps(result | {"machine": machine, "rows": SHARDS * arguments.rows, "rounds": arguments.rounds}))


def write_shards(folder: Path, texts: Sequence[str], count: int, rows: int) -> Path:
    """Write so many CSV files of `rows` comments each, repeated if there are too few, and return the folder."""
    folder.mkdir()
    following = cycle(texts)
    for number in range(count):
        ids = range(number * rows, (number + 1) * rows)
        table = pa.table({ID: pa.array(ids), TEXT: list(islice(following, rows))})
        pyarrow.csv.write_csv(table, folder / f"part-{number:05}.csv")
    return folder


def score_in_rounds(folder: Path, model: str, shards: Path, rounds: int) -> tuple[dict[str, list[Run]], bool]:
    """Score shards once with one process, and in every round with the others.

    Returns:
        The runs of each contender, and whether Ray left in all of its runs what one process did.
    """
    one, same = folder / "one", True
    runs = {"one": [run_job("one", model, shards, one)], "two_processes": [], "ray": []}
    expected = files_of(one)
    for number in range(1, rounds + 1):
        for name in ("two_processes", "ray"):
            print(f"round {number} of {rounds}: {CONTENDERS[name]}", file=sys.stderr)
            output = folder / f"{name}-{number}"
            runs[name].append(run_job(name, model, shards, output))
            same &= name != "ray" or files_of(output) == expected
    return runs, same


def files_of(folder: Path) -> dict[str, bytes]:
    """The content of every file in a folder, by its path there."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def small_shards_in_rounds(folder: Path, model: str, shards: Path, rounds: int) -> dict[str, float]:
    """Milliseconds of the scoring phase for a shard, of Ray, of two processes, and of `bare` Scorers; medians."""
    seconds: dict[str, list[float]] = {"bare": [], "two_processes": [], "ray": []}
    count = len(list(shards.iterdir()))
    for number in range(1, rounds + 1):
        print(f"small shards, round {number} of {rounds}", file=sys.stderr)
        seconds["bare"].append(bare_seconds(model, shards))
        for name in ("two_processes", "ray"):
            seconds[name].append(run_job(name, model, shards, folder / f"small-{name}-{number}").scoring_seconds)
    return {name: 1000 * median(values) / count for name, values in seconds.items()}


def memory_of_driver(folder: Path, texts: Sequence[str], counts: Sequence[int]) -> dict[int, float]:
    """The driver's peak memory in MiB, by number of shards, of one comment each."""
    model, peaks = save_tiny_model(folder / "tiny"), {}
    for count in counts:
        print(f"memory: {count:,} shards", file=sys.stderr)
        shards = write_shards(folder / f"memory-{count}", texts, count, 1)
        peaks[count] = run_job("ray", str(model), shards, folder / f"memory-{count}-scores").peak_mb
    return peaks


def summarise(
    runs: dict[str, list[Run]], same_bytes: bool, small_ms: dict[str, float], memory: dict[int, float]
) -> dict[str, Any]:
    """The keys of the docstring."""
    rates = {name: median(run.rows / run.scoring_seconds for run in of_one) for name, of_one in runs.items()}
    seconds = {name: median(run.seconds for run in of_one) for name, of_one in runs.items()}
    few, many = (memory[count] for count in sorted(memory))
    return {
        "vs_two_processes": rates["ray"] / rates["two_processes"],
        "vs_two_processes_command": seconds["two_processes"] / seconds["ray"],
        "vs_one_process": rates["ray"] / rates["one"],
        "same_bytes": same_bytes,
        "overhead_ms_a_shard": small_ms["ray"] - small_ms["bare"],
        "overhead_ms_a_shard_two_processes": small_ms["two_processes"] - small_ms["bare"],
        "driver_memory_growth_mb": many - few,
        "driver_memory_mb": memory,
        "rows_per_second": rates,
        "seconds": seconds,
        "small_shard_ms": small_ms,
    }


def print_table(result: dict[str, Any]) -> None:
    """The table for people."""
    rates, seconds, small = (result[key] for key in ("rows_per_second", "seconds", "small_shard_ms"))
    labels = CONTENDERS | {"bare": "bare Scorers, a shard a call"}
    rows = []
    for name, label in labels.items():
        numbers = ((rates.get(name), 0), (seconds.get(name), 1), (small.get(name), 2))
        shown = ("" if number is None else f"{number:,.{digits}f}" for number, digits in numbers)
        rows.append([label, *shown])
    print(markdown_table(["", "rows/s while scoring", "whole command, s", "small shard, ms"], rows))


if __name__ == "__main__":
    with refusals_exit_cleanly():
        main()
