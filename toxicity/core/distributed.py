"""The processes of one job: their ranks, their devices, and the objects they exchange."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import psutil
import torch
from torch import distributed

from toxicity.core.errors import RequestError

# Launchers set one of these to the number of a process among several: torch's the first, those of MPI the others.
RANK_VARIABLES = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
# For threads of gloo to let go of what was exchanged last.
SECONDS_TO_LET_GO = 0.5

T = TypeVar("T")


@contextmanager
def process_group() -> Iterator[None]:
    """Join the other processes of `accelerate launch` or `torchrun`, over gloo: only small objects are exchanged."""
    if world_size() == 1:
        yield
        return
    # One rank may wait this long for another to finish its last file.
    distributed.init_process_group("gloo", timeout=timedelta(days=7))
    try:
        yield
    finally:
        # They need Python's lock for that. `destroy_process_group` of torch 2.7 holds it while it waits for them to
        # end, and would wait for ever.
        time.sleep(SECONDS_TO_LET_GO)
        distributed.destroy_process_group()


def rank() -> int:
    """Number of this process, from 0; rank 0 is the main process."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many processes work on the job."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def accelerator() -> torch.device | None:
    """The kind of accelerator that torch can use here, without an index; None if there is none.

    Without the check torch names the kind that it was compiled for, whether this machine has one or not.
    """
    return torch.accelerator.current_accelerator(check_available=True)


def device() -> torch.device | None:
    """The accelerator of this process; None if there is none."""
    kind = accelerator()
    if kind is None:
        return None
    return torch.device(kind.type, int(os.environ.get("LOCAL_RANK", "0")) % torch.accelerator.device_count())


def gather(value: T) -> list[T]:
    """The value of each rank, in the order of the ranks, on all of them; waits for all ranks."""
    if world_size() == 1:
        return [value]
    values: list[T | None] = [None] * world_size()
    distributed.all_gather_object(values, value)
    return values


def shared_counter() -> Callable[[], int]:
    """A function that returns 0, 1, 2 and so on, each of them once to one of all ranks; all ranks call this together.

    Rank 0 serves the numbers while it holds the function, so it must not drop it before the others have done counting.
    """
    if world_size() == 1:
        return itertools.count().__next__
    host, store = os.environ.get("MASTER_ADDR", "localhost"), None
    if rank() == 0:
        store = distributed.TCPStore(host, 0, is_master=True, wait_for_workers=False)
    port = gather(store and store.port)[0]
    store = store or distributed.TCPStore(host, port, is_master=False)
    return lambda: store.add("next", 1) - 1


def run_on_all(work: Callable[[], T]) -> T:
    """Run `work` on every rank; if it raises `RequestError` on any rank, raise that on all, so that none waits.

    Raises:
        RequestError: that of the lowest rank that raised one.
    """
    result, refusal = None, None
    try:
        result = work()
    except RequestError as error:
        refusal = error
    for other in gather(refusal):
        if other is not None:
            raise other
    return result


def run_on_main(work: Callable[[], T]) -> T:
    """Run `work` on rank 0 alone; every rank gets its result, or its `RequestError`."""
    return gather(run_on_all(lambda: work() if rank() == 0 else None))[0]


def require_all_processes() -> None:
    """Refuse to run alone where Accelerate's launcher was asked for several processes and started a single one.

    Without GPUs `accelerate launch --num_processes 2` does that silently: half of the machine would be idle, and the
    batch half as large as asked for. The launcher then sets MASTER_PORT, as for several processes, but no rank. Where
    its own environment has that port already, this is no proof, and the run goes on.

    Raises:
        RequestError: naming the command that starts several processes on a CPU.
    """
    launched = "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_PORT" in os.environ
    if not launched or any(name in os.environ for name in RANK_VARIABLES):
        return
    try:
        asked_for_several = "MASTER_PORT" not in psutil.Process().parent().environ()
    except (psutil.Error, AttributeError):
        return
    if asked_for_several:
        # What the Accelerate config came to: torchrun does not read it.
        names = ("ACCELERATE_USE_CPU", "ACCELERATE_MIXED_PRECISION")
        settings = "".join(
            f"{name}={os.environ[name]} " for name in names if os.environ.get(name, "no") not in ("no", "False")
        )
        raise RequestError(
            "accelerate launch was asked for several processes and started one, as it does without GPUs. Start two on "
            f"a CPU with `{settings}torchrun --standalone --nproc_per_node 2 run_toxicity.py ...`, or ask for one "
            "process."
        )
