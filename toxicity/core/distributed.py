"""The processes of one job: their ranks, their devices, and the objects they exchange."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
from torch import distributed

from toxicity.core.errors import RequestError

# One rank may wait this long for another to finish its last file.
TIMEOUT = timedelta(days=7)

T = TypeVar("T")


@contextmanager
def process_group() -> Iterator[None]:
    """Join the other processes of `accelerate launch` or `torchrun`, over gloo: only small objects are exchanged."""
    if world_size() == 1:
        yield
        return
    distributed.init_process_group("gloo", timeout=TIMEOUT)
    try:
        yield
    finally:
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
