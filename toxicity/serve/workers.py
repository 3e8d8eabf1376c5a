"""Several processes that answer at one port, each with a model of its own and its share of the cores."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import socket
import sys
import tempfile
import time

from uvicorn.config import STARTUP_FAILURE, Config
from uvicorn.supervisors.multiprocess import Multiprocess, Process

from toxicity.core.errors import EXIT_REFUSED, RunFailure
from toxicity.hardware.cpu import usable_cores
from toxicity.serve.metrics import SHARED_FOLDER

# How long a worker may load that is to take the place of another after SIGHUP.
LOAD_SECONDS = 300
# Option of prctl(2): the signal that a process gets when its parent has died.
PR_SET_PDEATHSIG = 1

logger = logging.getLogger(__name__)


def serve_with_workers(config: Config, listener: socket.socket, told: str) -> None:
    """Answer in `config.workers` processes until this one is told to stop; a worker that dies is replaced.

    Args:
        config: how each of them serves; its application is a function that makes it.
        listener: the socket that the workers share.
        told: what is logged when all of them answer.

    Raises:
        KeyboardInterrupt: after Ctrl-C.
        RunFailure: if one ends before it answers.
        SystemExit: with 2 if one has said why it cannot.
    """
    config.timeout_worker_healthcheck = LOAD_SECONDS
    # Nothing is read from it, and each worker would open it again, which only works for a usual one.
    sys.stdin = None
    share = str(max(1, usable_cores() // config.workers))
    for threads in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ.setdefault(threads, share)
    # By it `prepare_process` shares the cores.
    os.environ["LOCAL_WORLD_SIZE"] = str(config.workers)
    with tempfile.TemporaryDirectory(prefix="toxicity-serve-") as folder:
        os.environ[SHARED_FOLDER] = folder
        supervisor = _Supervisor(config, [listener], told)
        supervisor.run()
    if supervisor.interrupted:
        raise KeyboardInterrupt
    if supervisor.failed == STARTUP_FAILURE:
        sys.exit(EXIT_REFUSED)
    if supervisor.failed is not None:
        raise RunFailure(
            f"a worker ended with code {supervisor.failed} before it answered: is there memory for {config.workers}? "
            "Start fewer by --workers."
        )


class _Supervisor(Multiprocess):
    def __init__(self, config: Config, sockets: list[socket.socket], told: str) -> None:
        super().__init__(config, sockets)
        self.told, self.interrupted, self.failed = told, False, None

    def init_processes(self) -> None:
        """Start one worker, and the others once it answers: what it refuses is said once, not again and again."""
        if self._start_and_wait(1) and self._start_and_wait(self.processes_num - 1):
            logger.info(self.told)

    def keep_subprocess_alive(self) -> None:
        """Replace workers that have ended. One that is silent is left alone: it may be loading its model."""
        for index, process in enumerate(self.processes):
            if not process.process.is_alive() and not self.should_exit.is_set():
                logger.warning(f"A worker has ended with code {process.exitcode}: starting another.")
                self.processes[index] = self._start_worker()

    def terminate_all(self) -> None:
        """Stop the workers. The socket is closed when all have, as new clients would wait for the last one in vain."""
        for listener in self.sockets:
            listener.close()
        super().terminate_all()

    def handle_int(self) -> None:
        self.interrupted = True
        super().handle_int()

    def _start_worker(self) -> Process:
        process = Process(self.config, self.sockets)
        process.start()
        return process

    def _start_and_wait(self, count: int) -> bool:
        """Start so many workers, and wait until they answer, one fails, or the service is to stop."""
        started = [self._start_worker() for _ in range(count)]
        self.processes += started
        while not all(process.is_ready(timeout=1) for process in started) and not self.should_exit.is_set():
            self.handle_signals()
            codes = [process.exitcode for process in started if not process.process.is_alive()]
            if codes:
                self.failed = codes[0]
                self.should_exit.set()
            time.sleep(0.1)
        return not self.should_exit.is_set()


def end_with_parent() -> None:
    """Have this process end when its parent has died: whoever kills the first process wants no worker at its port."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
