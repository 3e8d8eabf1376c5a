"""Threads, allocator and kernel caches of a processor, set once before the first tensor."""

from __future__ import annotations

import ctypes
import os
import platform
import sys

import psutil
import torch

from toxicity.hardware.precision import has_bf16_instructions

# oneDNN compiles a kernel for each shape it meets and keeps 1,024 of them, of half a megabyte each, twice over.
KERNELS_KEPT_FOR_SCORING = 256


# Parameters of glibc's mallopt(3).
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4


def prepare_cpu(scoring: bool = False) -> None:
    """Threads, allocator and precision for work on a CPU; call it before the first tensor, once a process.

    `accelerate launch` starts a script that has no config on one thread, glibc hands large buffers back to the
    kernel after every step, and bf16 is slower than fp32 on a processor without instructions for it. Each is
    mended here, so that a launch by hand is as fast as one through make.

    Args:
        scoring: whether the process only scores. It then keeps fewer of the kernels that are compiled for it: a step of
            training uses its own in all layers and in both directions, batches of sorted comments have few lengths.
    """
    if scoring:
        # One cache is oneDNN's, the other that of the layer between it and torch.
        for cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
            os.environ.setdefault(cache, str(KERNELS_KEPT_FOR_SCORING))
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    threads = max(1, usable_cores() // processes)
    if torch.get_num_threads() < threads:
        torch.set_num_threads(threads)
    _keep_freed_memory()
    on_cpu = os.environ.get("ACCELERATE_USE_CPU") == "True" or not torch.accelerator.is_available()
    if on_cpu and os.environ.get("ACCELERATE_MIXED_PRECISION") == "bf16" and not has_bf16_instructions():
        print("This processor has no bf16 instructions: working in fp32.", file=sys.stderr)
        os.environ["ACCELERATE_MIXED_PRECISION"] = "no"


def describe_cpu_settings() -> str:
    """What `prepare_cpu` came to, in words for the log."""
    allocator = "glibc keeps freed memory for the next step" if _has_glibc() else "the allocator is left as it is"
    return f"{torch.get_num_threads()} threads for {usable_cores()} cores; {allocator}."


def usable_cores() -> int:
    """Physical cores this process may run on: two threads of one core share its arithmetic units."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, psutil.cpu_count(logical=False) or allowed)


def _keep_freed_memory() -> None:
    if _has_glibc():
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(M_TOP_PAD, 64 * 2**20)


def _has_glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"
