"""What runs on the nodes of a Ray cluster: an actor that holds the model of a job, and scores the shards it gets."""

from __future__ import annotations

import argparse
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from logging.handlers import QueueHandler
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import torch

from toxicity.core import distributed
from toxicity.core.errors import RequestError
from toxicity.core.files import digest
from toxicity.hardware.availability import unused_gpu
from toxicity.hardware.process import prepare_process
from toxicity.predict.output_folder import is_local, names_below, remove, writing_to
from toxicity.predict.outputs import IN_PROGRESS, Outputs
from toxicity.predict.progress import Progress
from toxicity.predict.score_shards import Failure, score_shards
from toxicity.predict.shards import Shard
from toxicity.predict.submission import Sample
from toxicity.predict.worker import Worker, load_worker

PACKAGE = Path(__file__).resolve().parents[1]
# A file server may tell other machines of a new file some seconds later.
SECONDS_TO_APPEAR = 10.0


class ScoringActor:
    """Scores shards, for several calls at the same time: what one has read is scored while another reads.

    Args:
        arguments: the parsed command line.
        sample: the competition's sample of a submission, if there is one.
        cores: how many threads compute.
        on_gpu: whether it has a GPU to compute on.
    """

    def __init__(self, arguments: argparse.Namespace, sample: Sample | None, cores: int, on_gpu: bool) -> None:
        self._arguments, self._sample, self._cores, self._on_gpu = arguments, sample, cores, on_gpu
        self._worker: Worker | None = None
        self._turn, self._counting = threading.Lock(), threading.Lock()
        self._ended, self._calls = Progress(0), set[Progress]()  # what calls did that have returned, and that have not
        self._logged: SimpleQueue[logging.LogRecord] = SimpleQueue()

    def place(self, folder: Path, sources: str, paths: Sequence[str], probe: Path) -> tuple[str, str]:
        """Check this node; returns the name of the machine, and the id of the node.

        Args:
            folder: the working folder of the driver, which becomes that of this process if it is there.
            sources: `digest_of_sources` of the driver.
            paths: files and folders that the driver sees.
            probe: a file in the output folder that the driver wrote.

        Raises:
            RequestError: if this node has other sources, or lacks a path or the probe, or nothing can be written there.
        """
        import ray

        with suppress(OSError):
            os.chdir(folder)
        if digest_of_sources() != sources:
            raise RequestError(
                "there is another version of this package: install the same everywhere, or take it away there, as Ray "
                "brings this one."
            )
        if unseen := [path for path in paths if not Path(path).exists()]:
            raise RequestError(f"{unseen[0]} is not there: put it in a folder that all nodes share, or on the Hub.")
        until = time.monotonic() + SECONDS_TO_APPEAR
        with writing_to(probe.parent):
            while not probe.exists():
                if time.monotonic() > until:
                    raise RequestError(
                        "--output is not the same folder here as on the machine of the command: name one that all "
                        "nodes share, or an address such as s3://BUCKET/FOLDER."
                    )
                time.sleep(0.1)
            probe.with_name(uuid.uuid4().hex).write_text("")
        return socket.gethostname(), ray.get_runtime_context().get_node_id()

    def load(self) -> dict[str, Any]:
        """Load the model; returns the description of the job.

        Raises:
            RequestError: if torch cannot use the GPU, or what `load_worker` raises.
        """
        log = logging.getLogger("toxicity")
        log.handlers, log.propagate = [QueueHandler(self._logged)], False
        log.setLevel(logging.INFO)
        # The driver tells that of all actors.
        logging.getLogger("toxicity.predict.progress").disabled = True
        prepare_process(scoring=True)
        torch.set_num_threads(self._cores)
        if self._on_gpu and distributed.accelerator() is None:
            raise RequestError(f"Ray has a GPU here that torch cannot use: {unused_gpu() or 'install a torch for it.'}")
        device = None if self._on_gpu else torch.device("cpu")
        self._worker = load_worker(self._arguments, self._sample, device)
        return self._worker.job

    def score(self, shards: Sequence[Shard], outputs: Outputs) -> tuple[dict[str, Failure], int, float]:
        """Score shards; returns those that failed, by address, and the rows and input bytes that were done."""
        progress = Progress(0)
        scorer, options, _ = self._worker
        with self._counting:
            self._calls.add(progress)
        failed = score_shards(shards, scorer, outputs, options, progress, self._turn)
        with self._counting:
            self._calls.remove(progress)
            self._ended.add(progress.rows, progress.input_bytes)
        return failed, progress.rows, progress.input_bytes

    def report(self) -> tuple[int, float, list[logging.LogRecord]]:
        """The rows and input bytes that all calls have done until now, and what was logged since the last time."""
        with self._counting:
            counts = [self._ended, *self._calls]
            rows, input_bytes = (sum(getattr(count, name) for count in counts) for name in ("rows", "input_bytes"))
        records = []
        with suppress(Empty):
            while True:
                records.append(self._logged.get_nowait())
        return rows, input_bytes, records


def digest_of_sources() -> str:
    """A digest of the sources of this package as they are installed here."""
    files = sorted(PACKAGE.rglob("*.py"))
    return digest(part for file in files for part in (file.relative_to(PACKAGE).as_posix().encode(), file.read_bytes()))


@contextmanager
def probe_in(output: Path) -> Iterator[Path]:
    """A new file in the output folder, in a folder of its own, so that no cache of what is there is older than it.

    Raises:
        RequestError: if it cannot be written.
    """
    probe = output / IN_PROGRESS / f"probe-{uuid.uuid4().hex}" / "driver"
    with writing_to(output):
        if is_local(output):
            probe.parent.mkdir(parents=True)
        probe.write_text("")
    try:
        yield probe
    finally:
        with suppress(Exception):
            remove(probe.parent, names_below(probe.parent, ""))
        for folder in (probe.parent, probe.parent.parent, output) if is_local(output) else ():
            with suppress(OSError):  # where the job has left something
                folder.rmdir()
