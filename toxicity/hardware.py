"""What machine this is, and how to get the best out of its processor."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import torch

# Parameters of glibc's mallopt(3).
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4


def prepare_cpu() -> None:
    """Threads, allocator and precision for work on a CPU; call it before the first tensor, once a process.

    `accelerate launch` starts a script that has no config on one thread, glibc hands large buffers back to the
    kernel after every step, and bf16 is slower than fp32 on a processor without instructions for it. Each is
    mended here, so that a launch by hand is as fast as one through make.
    """
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    threads = max(1, _usable_cores() // processes)
    if torch.get_num_threads() < threads:
        torch.set_num_threads(threads)
    _keep_freed_memory()
    on_cpu = os.environ.get("ACCELERATE_USE_CPU") == "True" or not torch.accelerator.is_available()
    if on_cpu and os.environ.get("ACCELERATE_MIXED_PRECISION") == "bf16" and not _has_bf16_instructions():
        print("This processor has no bf16 instructions: working in fp32.", file=sys.stderr)
        os.environ["ACCELERATE_MIXED_PRECISION"] = "no"


def describe_machine(device: torch.device, device_count: int) -> dict[str, Any]:
    """The machine as `benchmark.json` tells it.

    Args:
        device: what this process computes on.
        device_count: devices that work together, over all processes.

    Returns:
        `label`, `device_name`, `compute_capability` (such as `"7.0"`, None on a CPU), `device_count`, `cpu_count`.
    """
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        capability = ".".join(map(str, torch.cuda.get_device_capability(device)))
    else:
        name, capability = _processor_name(), None
    return {
        "label": device.type if device.type != "cuda" else _short_name(name),
        "device_name": name,
        "compute_capability": capability,
        "device_count": device_count,
        "cpu_count": _usable_cores(),
    }


def _usable_cores() -> int:
    """Physical cores this process may run on: two threads of one core share its arithmetic units."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, psutil.cpu_count(logical=False) or allowed)


def _keep_freed_memory() -> None:
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(M_TOP_PAD, 64 * 2**20)


def _has_bf16_instructions() -> bool:
    if platform.machine() in ("x86_64", "AMD64"):
        flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
        return "avx512_bf16" in flags or "amx_bf16" in flags
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def _processor_name() -> str:
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    if platform.system() == "Darwin":
        return subprocess.run(
            ["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False
        ).stdout.strip()
    return platform.processor() or platform.machine()


def _short_name(device_name: str) -> str:
    """`Tesla P100-PCIE-16GB` → `p100`."""
    words = device_name.lower().replace("-", " ").split()
    return next((word for word in words if any(letter.isdigit() for letter in word)), words[-1])
