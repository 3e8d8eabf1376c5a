"""Memory of a GPU that other processes share: how much is free, and what to do if that is too little."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from toxicity.core.errors import RequestError, one_line

# Less than any model needs beside what CUDA itself takes.
LEAST_FREE_BYTES = 2**30


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error of torch says that a device has no memory left, or that another process has it for itself."""
    return isinstance(error, torch.OutOfMemoryError) or bool(re.search("out of memory|busy or unavailable", str(error)))


@contextmanager
def full_card_explained(device: torch.device | None = None, what: str = "this job") -> Iterator[None]:
    """Turn the error of a GPU without enough memory into a `RequestError` that says how much is free, and what helps.

    Args:
        device: by default the current one.
        what: what had no room, for the message.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise RequestError(room_of(device, what) or f"there is no room for {what}: {one_line(error)}") from error


def require_room(device: torch.device) -> None:
    """Raise `RequestError` if other processes have filled a CUDA device, before anything is read for it."""
    if device.type != "cuda":
        return
    with full_card_explained(device):
        free, _ = torch.cuda.mem_get_info(device)
    if free < LEAST_FREE_BYTES:
        raise RequestError(room_of(device, "this job"))


def room_of(device: torch.device | None, what: str) -> str | None:
    """Two sentences: there is no room for something on a CUDA device, and why; None for other devices."""
    if device is not None and device.type != "cuda":
        return None
    try:
        free, total = torch.cuda.mem_get_info(device)
        name = torch.cuda.get_device_name(device)
        others = total - free - torch.cuda.memory_reserved(device)
    except (RuntimeError, AssertionError):  # not even CUDA itself has room
        return (
            f"there is no room for {what}: other processes have filled the GPU, or one has it for itself; nvidia-smi "
            "lists them. End them, or name another GPU: CUDA_VISIBLE_DEVICES=1 before the command."
        )
    free_part = f"there is no room for {what} on the {name}: {_gib(free)} of its {_gib(total)} GiB are free"
    # CUDA itself takes some hundred MiB in this process.
    if others >= LEAST_FREE_BYTES:
        return (
            f"{free_part}, and other processes hold {_gib(others)}; nvidia-smi lists them. End them, or name another "
            "GPU: CUDA_VISIBLE_DEVICES=1 before the command."
        )
    return f"{free_part}. Choose a smaller model, or a GPU with more memory."


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f}"
