"""The processes that a launcher started for one job: who this one is, and what they tell each other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
from torch import distributed

from toxicity.core.errors import RequestError

# The last shard of another process may take long.
PATIENCE = timedelta(days=7)

T = TypeVar("T")


@contextmanager
def joined() -> Iterator[None]:
    """Join the other processes of `accelerate launch` or `torchrun`, over gloo: nothing but messages is passed."""
    if count() == 1:
        yield
        return
    distributed.init_process_group("gloo", timeout=PATIENCE)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def rank() -> int:
    """Number of this process, from 0; 0 speaks for all."""
    return int(os.environ.get("RANK", "0"))


def count() -> int:
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
    """What each process gives, in the order of their numbers; all have it when the last has given."""
    if count() == 1:
        return [value]
    values: list[T | None] = [None] * count()
    distributed.all_gather_object(values, value)
    return values


def all_or_none(work: Callable[[], T]) -> T:
    """Do what every process must do; if one is refused its request, all are, and none waits for it.

    Raises:
        RequestError: the first process's that met one.
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


def once(work: Callable[[], T]) -> T:
    """Do something in the first process alone; what comes of it, or its `RequestError`, comes to all."""
    return gather(all_or_none(lambda: work() if rank() == 0 else None))[0]
