"""What runs on the nodes of a Ray cluster: an actor that holds the model of a job, and scores the shards it gets."""

from __future__ import annotations

import argparse
import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from toxicity.core.errors import RequestError, one_line
from toxicity.core.files import digest

if TYPE_CHECKING:
    from toxicity.predict.outputs import Outputs
    from toxicity.predict.score_shards import Failure
    from toxicity.predict.shards import Shard
    from toxicity.predict.submission import Sample
    from toxicity.predict.worker import Worker

PACKAGE = Path(__file__).resolve().parents[1]
# A report comes at least this often, for the progress.
SECONDS_BETWEEN_REPORTS = 1.0
# A file server may tell other machines of a new file some seconds later.
SECONDS_TO_APPEAR = 10.0

logger = logging.getLogger(__name__)


class Place(NamedTuple):
    """Where an actor is, and what it found there."""

    node: str  # the name of the machine, for messages
    node_id: str
    sources: str  # `digest_of_sources` there
    unseen: list[str]  # which paths of the driver are not there


class Report(NamedTuple):
    """What an actor did since its last report."""

    finished: list[tuple[str, Failure | None]]  # addresses of shards, and why those failed that did
    rows: int
    input_bytes: float
    open_rows: int  # of all rows that were reported, those of the shard that is not finished
    open_bytes: float
    wants_more: bool  # whether it has read all shards that it was given
    told: list[tuple[int, str]]  # log lines, with their levels


class ScoringActor:
    """Scores shards in a thread of its own, so that it answers the driver meanwhile.

    It imports torch and the rest only when it loads the model: then what a node lacks can be told.

    Args:
        arguments: the parsed command line, with absolute paths.
        sample: the competition's sample of a submission, if there is one.
        cores: how many threads compute.
        on_gpu: whether it has a GPU to compute on.
    """

    def __init__(self, arguments: argparse.Namespace, sample: Sample | None, cores: int, on_gpu: bool) -> None:
        self._arguments, self._sample, self._cores, self._on_gpu = arguments, sample, cores, on_gpu
        self._worker: Worker | None = None
        self._log = _Lines()
        # All that follows is guarded by it.
        self._changed = threading.Condition()
        self._unread: deque[Shard] = deque()
        self._unfinished = 0
        self._ended, self._reading = False, False  # whether no more shards come for now; whether one is being read
        self._finished: list[tuple[str, Failure | None]] = []
        self._broken: BaseException | None = None
        self._thread: threading.Thread | None = None

    def place(self, probe: Path, answer: str, paths: Sequence[str]) -> Place:
        """Say where this is, and write a file beside the probe, in the output folder, for the driver to see.

        Args:
            probe: a file that the driver wrote.
            answer: the name of the file to write.
            paths: files and folders that the driver sees.

        Raises:
            RequestError: if the probe is not there, or nothing can be written beside it.
        """
        import ray

        until = time.monotonic() + SECONDS_TO_APPEAR
        while not probe.exists():
            if time.monotonic() > until:
                raise RequestError(
                    "--output is not the same folder here as on the machine of the command: name one that all nodes "
                    "share, or an address such as s3://BUCKET/FOLDER."
                )
            time.sleep(0.1)
        try:
            probe.with_name(answer).write_text("")
        except OSError as error:
            raise RequestError(
                f"cannot write to --output: {one_line(error)}. Let the user of Ray write there."
            ) from error
        unseen = [path for path in paths if not Path(path).exists()]
        return Place(socket.gethostname(), ray.get_runtime_context().get_node_id(), digest_of_sources(), unseen)

    def load(self) -> tuple[dict[str, Any], list[tuple[int, str]]]:
        """Load the model; returns the description of the job, and log lines with their levels.

        Raises:
            RequestError: if torch cannot use the GPU, or what `load_worker` raises.
        """
        import torch

        from toxicity.core import distributed
        from toxicity.hardware.availability import unused_gpu
        from toxicity.hardware.process import prepare_process
        from toxicity.predict.worker import load_worker

        self._log.attach()
        prepare_process(scoring=True)
        torch.set_num_threads(self._cores)
        if self._on_gpu and distributed.accelerator() is None:
            raise RequestError(f"Ray has a GPU here that torch cannot use: {unused_gpu() or 'install a torch for it.'}")
        device = None if self._on_gpu else torch.device("cpu")
        self._worker = load_worker(self._arguments, self._sample, device)
        return self._worker.job, self._log.taken()

    def exchange(self, shards: Sequence[Shard], outputs: Outputs, more: bool) -> Report:
        """Take shards to score, and report what was done.

        Args:
            shards: what to score; none where it is only asked for the report.
            outputs: where the scores belong, the same in all calls.
            more: whether more may come, for which this waits until all are read. If not, it waits until all are
                finished, which the last of several is only then; but a second at the most.
        """
        from toxicity.predict.progress import Progress

        with self._changed:
            if self._thread is None:
                self._progress, self._reported, self._settled = Progress(0), (0, 0.0), (0, 0.0)
                self._thread = threading.Thread(target=self._score, args=(outputs,), daemon=True)
                self._thread.start()
            self._unread.extend(shards)
            self._unfinished += len(shards)
            self._ended = not more
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: self._broken or (self._wants_more if more else not self._unfinished), SECONDS_BETWEEN_REPORTS
            )
            if self._broken is not None:
                raise self._broken
            now, before, settled = (self._progress.rows, self._progress.input_bytes), self._reported, self._settled
            finished, self._finished, self._reported = self._finished, [], now
            return Report(
                finished,
                now[0] - before[0],
                now[1] - before[1],
                now[0] - settled[0],
                now[1] - settled[1],
                self._wants_more,
                self._log.taken(),
            )

    @property
    def _wants_more(self) -> bool:
        return not self._reading and not self._unread

    def _score(self, outputs: Outputs) -> None:
        from toxicity.predict.score_shards import score_shards

        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._unread)
                scorer, options, _ = self._worker
                score_shards(self._following(outputs), scorer, outputs, options, self._progress, self._finish)
        except BaseException as error:  # told to the driver, which replaces this actor
            with self._changed:
                self._broken = error
                self._changed.notify_all()

    def _following(self, outputs: Outputs) -> Iterator[Shard]:
        """The shards that come, until no more come for now: only then the last one of them is finished."""
        while True:
            with self._changed:
                self._reading = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._unread or self._ended)
                if not self._unread:
                    return
                shard, self._reading = self._unread.popleft(), True
            if _is_here(shard):
                yield shard
            else:
                self._refuse(shard, outputs)

    def _refuse(self, shard: Shard, outputs: Outputs) -> None:
        from toxicity.predict.score_shards import Failure

        reason = (
            f"{shard.address} is not the same file on node {socket.gethostname()} as on the machine of the command: "
            "put it in a folder that all nodes share, or an object store."
        )
        logger.error(f"Failed: {reason}")
        outputs.forget(shard)
        with self._changed:
            self._finished.append((shard.address, Failure(reason, refused=True)))
            self._unfinished -= 1

    def _finish(self, shard: Shard, failure: Failure | None) -> None:
        with self._changed:
            self._finished.append((shard.address, failure))
            self._unfinished -= 1
            self._settled = self._progress.rows, self._progress.input_bytes
            self._changed.notify_all()


class _Lines(logging.Handler):
    """Keeps what the package logs, for the driver to log it: of the progress it shows its own."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[tuple[int, str]] = []

    def attach(self) -> None:
        log = logging.getLogger("toxicity")
        log.handlers, log.propagate = [self], False
        log.setLevel(logging.INFO)

    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.endswith(".progress"):
            self._lines.append((record.levelno, self.format(record)))

    def taken(self) -> list[tuple[int, str]]:
        lines, self._lines = self._lines, []
        return lines


def _is_here(shard: Shard) -> bool:
    if shard.location is not None:
        return True
    path = Path(shard.address)
    return path.is_file() and path.stat().st_size == shard.bytes


def digest_of_sources() -> str:
    """A digest of the sources of this package as they are installed here."""
    files = sorted(PACKAGE.rglob("*.py"))
    return digest(part for file in files for part in (file.relative_to(PACKAGE).as_posix().encode(), file.read_bytes()))
