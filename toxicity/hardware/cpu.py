"""CPU settings that are made once per process, before the first tensor: threads, memory allocator, kernel caches."""

from __future__ import annotations

import ctypes
import os
import platform
import sys

import psutil
import torch

from toxicity.hardware.precision import has_bf16_instructions

# Parameters of glibc's mallopt(3).
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4


def prepare_cpu(scoring: bool = False) -> None:
    """Set threads, memory allocator and precision for work on a CPU; call it once per process, before the first tensor.

    `accelerate launch` without a config starts a script with one thread, glibc returns large buffers to the kernel
    after every step, and bf16 is slower than fp32 on a CPU without bf16 instructions. All three are corrected here, so
    that a launch by hand is as fast as one through make.

    Args:
        scoring: whether the process only scores. It then caches fewer compiled kernels, which saves memory: batches of
            comments sorted by length have few distinct shapes, whereas training uses more kernels in every step.
    """
    if scoring:
        # oneDNN compiles a kernel for each shape of its inputs and by default keeps 1,024 of them, of about half a
        # megabyte, in each of two caches: its own, and that of ideep, the layer between it and torch.
        for cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
            os.environ.setdefault(cache, "256")
    threads = max(1, usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
    if torch.get_num_threads() < threads:
        torch.set_num_threads(threads)
    if _has_glibc():
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(M_TOP_PAD, 64 * 2**20)
    on_cpu = os.environ.get("ACCELERATE_USE_CPU") == "True" or not torch.accelerator.is_available()
    if on_cpu and os.environ.get("ACCELERATE_MIXED_PRECISION") == "bf16" and not has_bf16_instructions():
        print("This processor has no bf16 instructions: working in fp32.", file=sys.stderr)
        os.environ["ACCELERATE_MIXED_PRECISION"] = "no"


def describe_cpu_settings() -> str:
    """The CPU settings in effect, in words for the log."""
    allocator = "glibc keeps freed memory for the next step" if _has_glibc() else "the allocator is left as it is"
    return f"{torch.get_num_threads()} threads for {usable_cores()} cores; {allocator}."


def usable_cores() -> int:
    """Number of physical cores that this process may run on; hyper-threads share the arithmetic units of a core."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, psutil.cpu_count(logical=False) or allowed)


def _has_glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"
