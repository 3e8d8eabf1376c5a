"""The real script in processes of its own that start in a moment, and the faults that befall them.

They are forked from a server that has imported everything and started no thread. Each works on one core, so that
busy machines do not slow the many threads of tiny models down.
"""

import base64
import gc
import json
import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import ROOT, training_flags

from toxicity.core import distributed

PRELOADED = ["run_toxicity", "toxicity.predict.job", "faults", "training_steps", "matplotlib.figure"]
# The script imports these only when it needs them.
PRELOADED += ["toxicity.data.summary", "toxicity.models.classifier", "toxicity.models.padding_free"]
PRELOADED += ["toxicity.hub.publisher", "toxicity.hub.model_card", "toxicity.report.benchmark", "toxicity.report.write"]
PRELOADED += ["transformers.models.bert.modeling_bert", "transformers.integrations"]
# A single white pixel.
BLANK_PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mP4DwABAQEAHLCMmQAAAABJRU5ErkJggg=="
)
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--quiet"]


class Run:
    """A run of `run_toxicity.py` with its flags; `fault` is a function of `faults` with its arguments, or several."""

    script = "run_toxicity.py"

    def __init__(self, folder: Path, *flags: object, fault: tuple = (), **environment: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        number = len(list(folder.glob("*.out")))
        self.files = [folder / f"{number}.out", folder / f"{number}.err"]
        argv = [str(flag) for flag in flags]
        environment = {"HF_DATASETS_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1"} | environment
        self.process = _context().Process(target=_main, args=(self.script, argv, self.files, environment, fault))
        self.process.start()

    @property
    def output(self) -> str:
        return self.files[0].read_text(errors="replace")

    @property
    def errors(self) -> str:
        return self.files[1].read_text(errors="replace")

    @property
    def row(self) -> dict:
        return json.loads(self.output.splitlines()[-1])

    def ended(self, seconds: float = 240) -> int:
        """The exit code, minus the signal for one that was killed."""
        self.process.join(seconds)
        if self.process.exitcode is None:
            self.process.kill()
            pytest.fail(f"still running after {seconds} seconds: {self.errors[-2000:]}")
        return self.process.exitcode

    def wait_for(self, text: str, seconds: float = 120) -> None:
        """Wait until it has said something on standard error."""
        until = time.monotonic() + seconds
        while text not in (self.errors if self.files[1].exists() else ""):
            if time.monotonic() > until or self.process.exitcode is not None:
                pytest.fail(f"it never said {text!r}: {self.errors[-2000:]}")
            time.sleep(0.01)

    def terminate(self) -> None:
        os.kill(self.process.pid, signal.SIGTERM)


class PredictRun(Run):
    """A process of `python -m toxicity.predict` with its flags."""

    script = "toxicity.predict"


def ended_well(run: Run) -> Run:
    """The same run, when it is over and has succeeded."""
    assert run.ended() == 0, run.errors
    return run


def run_ranks(count: int, function: Callable[..., None], *arguments: object) -> None:
    """Call a function of a module beside this one in so many processes of one job, each on a core of its own."""
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    common |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    processes = []
    for rank in range(count):
        environment = common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        processes.append(_context().Process(target=_call, args=(environment, function, arguments)))
        processes[-1].start()
    for process in processes:
        process.join(240)
        if process.exitcode is None:
            process.kill()
    assert [process.exitcode for process in processes] == [0] * count


def exchange_and_leave() -> None:
    """As one process of a job, exchange objects with the others and end at once."""
    with distributed.process_group():
        assert distributed.gather(list(range(1_000))) == [list(range(1_000))] * distributed.world_size()


def count_together(folder: Path) -> None:
    """As one process of a job, take numbers below 300 with the others, and write them to a file."""
    with distributed.process_group():
        following, taken = distributed.shared_counter(), []
        while (number := following()) < 300:
            taken.append(number)
        distributed.gather(None)
        (folder / str(distributed.rank())).write_text(json.dumps(taken))


def free_port() -> str:
    """A port of loopback that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def two_ranks(
    folder: Path, *flags: object, faults: tuple = ((), ()), kind: type[Run] | None = None, **environment: str
) -> list[Run]:
    """The two processes of one run, without a launcher over them."""
    common = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": free_port(),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "HF_DATASETS_CACHE": str(folder / "cache"),
    } | environment
    start = kind or Run
    return [
        start(folder / f"rank{rank}", *flags, fault=faults[rank], RANK=str(rank), LOCAL_RANK=str(rank), **common)
        for rank in range(2)
    ]


def _context() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    # The server finds modules by the environment alone.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])
    return context


def _call(environment: dict[str, str], function: Callable[..., None], arguments: tuple) -> None:
    _take_one_core(environment)
    function(*arguments)


def _take_one_core(environment: dict[str, str]) -> None:
    os.environ.update(environment)
    # What was imported before the fork need not be searched whenever the Trainer collects garbage.
    gc.freeze()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[int(environment.get("RANK", 0)) % 2 - 1]})
    import torch

    # It found more cores when it was imported.
    torch.set_num_threads(1)


def _main(script: str, argv: list[str], files: list[Path], environment: dict[str, str], fault: tuple) -> None:
    for descriptor, path in zip((1, 2), files, strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    _take_one_core(environment)
    import datasets
    import faults
    from huggingface_hub import constants
    from matplotlib.figure import Figure

    # Of the time of a run half goes into drawing; what becomes of pictures is for other tests.
    Figure.savefig = lambda self, path, **options: Path(path).write_bytes(BLANK_PNG)
    # What a process has written outlives its death; flushing is for machines that lose their power.
    os.fsync = lambda descriptor: None
    datasets.config.HF_DATASETS_CACHE = Path(environment["HF_DATASETS_CACHE"])
    constants.HF_ASSETS_CACHE = environment.get("HF_ASSETS_CACHE", constants.HF_ASSETS_CACHE)
    for name, *values in [fault] if fault and isinstance(fault[0], str) else fault:
        getattr(faults, name)(*values)
    if script == "run_toxicity.py":
        sys.argv = [script, *argv, "--use_cpu"]
        runpy.run_path(str(ROOT / script), run_name="__main__")
    else:
        sys.argv = [script, *argv]
        runpy.run_module(script, run_name="__main__", alter_sys=True)


def run(*command, **environment):
    """Run a command that has to come to its end in five minutes, on the busiest machine."""
    return subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env=os.environ | {"HF_HUB_OFFLINE": "1"} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def start(function, *arguments):
    """Start a function of `tests/support` in a process of its own, and return the process."""
    process = _context().Process(target=function, args=arguments)
    process.start()
    return process


def flags(checkpoint, comments, output_dir):
    options = {"config_overrides": "hidden_dropout_prob=0.1", "learning_rate": 1e-3, "num_train_epochs": 6}
    return training_flags(checkpoint, comments, output_dir=output_dir, **options)
