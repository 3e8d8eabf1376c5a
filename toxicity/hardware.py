"""What machine this is, what it reaches, and how to get the best out of its processor."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import psutil
import torch

# A product of this length is timed well enough; larger ones gain nothing but waiting.
PEAK_PROBE_SECONDS = 0.02
PEAK_LARGEST_SIZE = 8192

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
    threads = max(1, _usable_cores() // processes)
    if torch.get_num_threads() < threads:
        torch.set_num_threads(threads)
    _keep_freed_memory()
    on_cpu = os.environ.get("ACCELERATE_USE_CPU") == "True" or not torch.accelerator.is_available()
    if on_cpu and os.environ.get("ACCELERATE_MIXED_PRECISION") == "bf16" and not _has_bf16_instructions():
        print("This processor has no bf16 instructions: working in fp32.", file=sys.stderr)
        os.environ["ACCELERATE_MIXED_PRECISION"] = "no"


def describe_cpu_settings() -> str:
    """What `prepare_cpu` came to, in words for the log."""
    allocator = "glibc keeps freed memory for the next step" if _has_glibc() else "the allocator is left as it is"
    return f"{torch.get_num_threads()} threads for {_usable_cores()} cores; {allocator}."


def fastest_precision(device: torch.device) -> str:
    """The fastest precision that a device computes natively: `bf16`, `fp16` or `no`, which is fp32."""
    if device.type not in ("cpu", "cuda"):
        return "no"
    capability = None
    if device.type == "cuda":
        capability = ".".join(map(str, torch.cuda.get_device_capability(device)))
    return judge_precision("", capability)[1]


def describe_machine(device: torch.device, device_count: int) -> dict[str, Any]:
    """The machine as `benchmark.json` tells it.

    Args:
        device: what this process computes on.
        device_count: devices that work together, over all processes.

    Returns:
        `label`, `device_name`, `compute_capability` (such as `"7.0"`, None on a CPU), `device_count`, `cpu_count`;
        `driver` and `memory_bytes` of the GPU computed on and `driver_gpus`, the names of all GPUs that NVIDIA's
        driver knows, whether torch can use them or not; `torch`, `cuda` (the version it is built for, None for a
        CPU) and `wheel_architectures`, what it has kernels for.
    """
    driver_gpus = _driver_gpus()
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
        "driver": driver_gpus[0][1] if driver_gpus else None,
        "memory_bytes": next((memory for gpu, _, memory in driver_gpus if gpu == name), None),
        "driver_gpus": [gpu for gpu, _, _ in driver_gpus],
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "wheel_architectures": torch.cuda.get_arch_list(),
    }


def judge_precision(
    mixed_precision: str, compute_capability: str | None, has_bf16: bool | None = None
) -> tuple[str, str | None]:
    """What a precision means on a device, in words for the log.

    Args:
        mixed_precision: what was asked for: `no` (fp32), `fp16` or `bf16`.
        compute_capability: of the GPU, such as `"7.0"`; None on a CPU.
        has_bf16: whether the CPU has bf16 instructions; by default this one is looked at.

    Returns:
        Why it is the best here, or what it is where it is not, and the precision that would be better, None if none.
    """
    if compute_capability is None:
        best = "bf16" if (_has_bf16_instructions() if has_bf16 is None else has_bf16) else "no"
        reason = {"bf16": "this processor has bf16 instructions", "no": "this processor has no bf16 instructions"}[best]
    else:
        major, minor = map(int, compute_capability.split("."))
        if major >= 8:
            best, reason = "bf16", "its tensor cores multiply bf16 as fast as fp16, without loss scaling"
        elif major == 7:
            best, reason = "fp16", "its tensor cores multiply fp16; bf16 came with Ampere"
        elif (major, minor) in ((6, 0), (6, 2), (5, 3)):
            best, reason = "fp16", "it multiplies fp16 at twice the rate of fp32, and has no bf16"
        else:
            best, reason = "no", "it has fast units for neither fp16 nor bf16"
    return reason, best if best != mixed_precision else None


def measure_matmul_peak(device: torch.device, mixed_precision: str) -> float:
    """Measure what the device reaches on square matrix products, the most a training run could reach.

    Sizes double while a product takes less than `PEAK_PROBE_SECONDS`, so that it is over in a second on any machine.

    Args:
        device: where to multiply.
        mixed_precision: `no` (fp32), `fp16` or `bf16`.

    Returns:
        FLOP/s of the fastest product, a multiplication and an addition counted as two.
    """
    dtype = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[mixed_precision]
    # Numbers of its own: how many are drawn hangs on the clock, and training must not hang on that.
    generator = torch.Generator(device).manual_seed(0)
    fastest, size, seconds = 0.0, 256, 0.0
    while size <= PEAK_LARGEST_SIZE and seconds < PEAK_PROBE_SECONDS:
        left, right = (torch.randn(size, size, device=device, generator=generator).to(dtype) for _ in range(2))
        for _ in range(4):  # the first one warms up
            seconds = _seconds_of_product(left, right)
            fastest = max(fastest, 2 * size**3 / seconds)
        size *= 2
    return fastest


def _seconds_of_product(left: torch.Tensor, right: torch.Tensor) -> float:
    start = perf_counter()
    left @ right
    if left.device.type != "cpu":
        torch.accelerator.synchronize(left.device)
    return perf_counter() - start


def _driver_gpus() -> list[tuple[str, str, int | None]]:
    """Name, driver version and memory in bytes of every GPU that NVIDIA's driver knows; none without a driver."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, check=True, timeout=4).stdout
        fields = [line.split(", ") for line in answer.splitlines()]
        return [
            # Cards that share the processor's memory give no number.
            (name, driver, int(mebibytes) * 2**20 if mebibytes.isdigit() else None)
            for name, driver, mebibytes in fields
        ]
    except (OSError, subprocess.SubprocessError, ValueError):
        return []


def _usable_cores() -> int:
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
