"""The service under load, on real comments: against the scoring loop, and against scoring each request alone.

    make bench-serve                                    # 5 minutes on two cores

The comments are the validation rows of the sample recipe, one a request to `POST /v1/score`. Every round runs, one
after the other and each in a process of its own, the scoring loop (the Scorer, all comments in one call), the Scorer
called with one comment at a time, and load by another process on loopback, which shares the processor with the service:
64 clients that each wait for their answer, before the service as it is and before one that scores each text alone (as
a route that calls the Scorer does); one client; and at last clients that do not wait and send twice as many requests as
the 64 were answered. Services are started once, and see each comment once before the clock starts. Rates are of the
median seconds. Answers are compared with the scores of the loop.

Keys of the JSON line, the last one of standard output:

    requests_per_second      answered, under 64 clients
    scores_per_second        the same in texts
    vs_scoring_loop          scores_per_second / rate of the scoring loop
    batching_gain            scores_per_second / the same of the service that scores each text alone
    vs_one_client            scores_per_second / rate of one client, who waits for each answer
    most_batching_gain       rate of the scoring loop / rate of the Scorer called with one comment at a time: what
                             batching comes to without a service, on this machine with these comments
    p50_ms_one_client        median milliseconds of an answer, with one client
    p99_ms_loaded            99th percentile of the same, under 64 clients
    errors                   requests to the service that failed, were answered with another status than 200, or 429
                             where clients do not wait, or with a score that is not the loop's within bf16's rounding
    memory_growth_mb         memory of the service after all requests of the 64 clients, less that before; MiB
    memory_mb                memory of the service before them, and after those of each round; MiB
    refused_share            answers with 429 under twice the load that it can bear
    p99_ms_overloaded        99th percentile of milliseconds of the other answers then
    accepted_per_second_overloaded   rate of these
    largest_difference       of a score from the loop's
    requests                 of the 64 clients in all
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import isnan, nan
from pathlib import Path
from statistics import median
from typing import Any

import datasets
import psutil

from benchmarks.rounds import run_module
from benchmarks.sample import recipe_data
from benchmarks.scoring_task import cores
from benchmarks.task import device
from toxicity.core.errors import RequestError, refusals_exit_cleanly
from toxicity.core.markdown import markdown_table
from toxicity.core.schema import TEXT
from toxicity.data.sources import load_splits
from toxicity.hardware.machine import describe_machine

SECONDS_TO_START = 120
# Of the requests of 64 clients: to the service that scores each text alone, and of one client.
ALONE_SHARE, ONE_CLIENT_SHARE = 4, 20


def main() -> None:
    """Run the benchmark and print its table and its JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="runs/sample", help="folder of a trained model; `make demo` makes one")
    parser.add_argument("--texts", type=int, default=2_000, help="different comments, 2,000 at most")
    parser.add_argument("--requests", type=int, default=20_000, help="of 64 clients, in all rounds together")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--overload_seconds", type=float, default=10, help="how long there is too much, in each round")
    arguments = parser.parse_args()
    if not (Path(arguments.model) / "config.json").is_file():
        raise RequestError(f"there is no trained model in {arguments.model}: run `make demo` first, it takes minutes.")
    datasets.disable_progress_bars()
    os.environ["HF_HUB_OFFLINE"] = "1"

    with tempfile.TemporaryDirectory() as folder:
        texts = load_splits(recipe_data()).validation.select(range(arguments.texts))[TEXT][:]
        (Path(folder) / "texts.json").write_text(json.dumps(texts))
        results, memory = measure(folder, arguments)
    summary = summarise(results, memory)
    machine = describe_machine(device(), 1)
    print(
        f"{arguments.texts:,} comments, one a request, on {machine['device_name']} ({cores()} cores, torch "
        f"{machine['torch']}), load by another process; medians of {arguments.rounds} rounds.\n"
    )
    print_table(results, arguments.clients)
    print(json.dumps(summary | {"machine": machine, "rounds": arguments.rounds, "clients": arguments.clients}))


def measure(folder: str, arguments: argparse.Namespace) -> tuple[dict[str, list[dict[str, Any]]], list[float]]:
    """Run all contenders in every round.

    Returns:
        What each of `LABELS` printed, in every round, and the memory of the service in MiB, before and after them.
    """
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in LABELS}
    requests, memory = -(-arguments.requests // arguments.rounds), []

    def say(name: str) -> None:
        print(f"round {number + 1} of {arguments.rounds}: {LABELS[name]}", file=sys.stderr)

    def loop(name: str) -> None:
        say(name)
        found[name].append(run_module("benchmarks.serve_contenders", name, folder, "--model", arguments.model))

    def load(name: str, port: int, count: int, *flags: object) -> None:
        say(name)
        found[name].append(send(port, folder, count, "--first", number * count, *flags))

    number = 0
    with served("server", folder, arguments.model) as service, served("alone", folder, arguments.model) as alone:
        many = "--clients", arguments.clients
        for number in range(arguments.rounds):
            loop("loop")
            loop("one")
            if not number:
                for server in (service, alone):
                    send(server.port, folder, arguments.texts, *many)
                memory.append(service.memory_mb())
            load("server", service.port, requests, *many)
            memory.append(service.memory_mb())
            load("alone", alone.port, requests // ALONE_SHARE, *many)
            load("one_client", service.port, requests // ONE_CLIENT_SHARE)
            rate = 2 * requests / found["server"][-1]["seconds"]
            load("overloaded", service.port, int(rate * arguments.overload_seconds), "--rate", rate)
    return found, memory


class Served:
    """A service in a process of its own, at a port of this machine."""

    def __init__(self, process: subprocess.Popen, port: int) -> None:
        self._process, self.port = process, port

    def memory_mb(self) -> float:
        """Memory that it has now, in MiB."""
        return psutil.Process(self._process.pid).memory_info().rss / 2**20

    def wait(self) -> None:
        """Wait until it answers."""
        until = time.monotonic() + SECONDS_TO_START
        while time.monotonic() < until and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.1)
            else:
                return
        raise SystemExit("the service did not start, see above")


@contextmanager
def served(name: str, folder: str, model: str) -> Iterator[Served]:
    """A contender of `benchmarks.serve_contenders` that answers at a free port; it is ended afterwards."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["benchmarks.serve_contenders", name, folder, "--model", model, "--port", str(port)]
    process = subprocess.Popen([sys.executable, "-m", *command], stdout=subprocess.DEVNULL)
    try:
        service = Served(process, port)
        service.wait()
        yield service
    finally:
        process.terminate()
        process.wait()


def send(port: int, folder: str, requests: int, *flags: object) -> dict[str, Any]:
    """Send so many requests to a service, from a process of their own."""
    return run_module("benchmarks.serve_load", str(port), folder, "--requests", *map(str, (requests, *flags)))


LABELS = {
    "loop": "the Scorer, all in one call",
    "one": "the Scorer, one at a time",
    "server": "the service",
    "alone": "the service, each text scored alone",
    "one_client": "the service, one client",
    "overloaded": "the service, twice the load it can bear",
}


def rate_of(results: list[dict[str, Any]]) -> float:
    """Texts a second, of the median seconds for each."""
    return 1 / median(result["seconds"] / result["answered"] for result in results)


def summarise(results: dict[str, list[dict[str, Any]]], memory: list[float]) -> dict[str, Any]:
    """The keys of the docstring."""
    rates = {name: rate_of(rounds) for name, rounds in results.items()}
    loads = [load for name in ("server", "one_client", "overloaded") for load in results[name]]
    expected_refusals = sum(load["refused"] for load in results["overloaded"])
    overloaded = expected_refusals + sum(load["answered"] for load in results["overloaded"])

    def middle(name: str, key: str) -> float:
        return median(load[key] for load in results[name])

    return {
        "requests_per_second": rates["server"],
        "scores_per_second": rates["server"],
        "vs_scoring_loop": rates["server"] / rates["loop"],
        "batching_gain": rates["server"] / rates["alone"],
        "vs_one_client": rates["server"] / rates["one_client"],
        "most_batching_gain": rates["loop"] / rates["one"],
        "p50_ms_one_client": middle("one_client", "p50_ms"),
        "p99_ms_loaded": middle("server", "p99_ms"),
        "errors": sum(load["errors"] + load["refused"] for load in loads) - expected_refusals,
        "memory_growth_mb": memory[-1] - memory[0],
        "memory_mb": memory,
        "refused_share": expected_refusals / overloaded,
        "p99_ms_overloaded": middle("overloaded", "p99_ms"),
        "accepted_per_second_overloaded": rates["overloaded"],
        "largest_difference": max(load["largest_difference"] for load in loads),
        "requests": sum(load["answered"] + load["refused"] for load in results["server"]),
    }


def print_table(results: dict[str, list[dict[str, Any]]], clients: int) -> None:
    """The table for people."""
    rows = []
    for name, rounds in results.items():
        medians = [median(load.get(key, nan) for load in rounds) for key in ("p50_ms", "p99_ms")]
        times = ["" if isnan(value) else f"{value:,.1f}" for value in medians]
        refused = sum(load.get("refused", 0) for load in rounds)
        many = f", {clients} clients" if name in ("server", "alone") else ""
        rows.append([LABELS[name] + many, f"{rate_of(rounds):,.0f}", *times, f"{refused:,}"])
    print(markdown_table(["", "texts a second", "p50, ms", "p99, ms", "refused"], rows) + "\n")


if __name__ == "__main__":
    with refusals_exit_cleanly():
        main()
