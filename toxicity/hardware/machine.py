"""Describe this machine for the report, and measure how fast it multiplies matrices."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from toxicity.hardware.cpu import usable_cores
from toxicity.hardware.precision import compute_capability, torch_dtype

# A product that takes this long is timed precisely enough; a larger one would only take more time.
PEAK_PROBE_SECONDS = 0.02
PEAK_LARGEST_SIZE = 8192


def describe_machine(device: torch.device, device_count: int) -> dict[str, Any]:
    """Describe the machine as `benchmark.json` does.

    Args:
        device: the device that this process computes on.
        device_count: number of devices in the run, over all processes.

    Returns:
        `label`, `device_name`, `compute_capability` (such as `"7.0"`, None on a CPU), `device_count`, `cpu_count`;
        `driver` and `memory_bytes` of that GPU; `driver_gpus`, the names of all GPUs that NVIDIA's driver lists,
        whether torch can use them or not; `torch`, `cuda` (the CUDA version torch is built for, None for a CPU build)
        and `wheel_architectures`, the GPU architectures that this build of torch has kernels for.
    """
    driver_gpus = _driver_gpus()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor_name()
    return {
        "label": device.type if device.type != "cuda" else _short_name(name),
        "device_name": name,
        "compute_capability": compute_capability(device),
        "device_count": device_count,
        "cpu_count": usable_cores(),
        "driver": driver_gpus[0][1] if driver_gpus else None,
        "memory_bytes": next((memory for gpu, _, memory in driver_gpus if gpu == name), None),
        "driver_gpus": [gpu for gpu, _, _ in driver_gpus],
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "wheel_architectures": torch.cuda.get_arch_list(),
    }


def measure_matmul_peak(device: torch.device, mixed_precision: str) -> float:
    """Measure the FLOP/s of square matrix products on a device: the upper bound for any training run on it.

    The size doubles while a product takes less than `PEAK_PROBE_SECONDS`, so that this takes about a second on any
    machine. The fastest product counts; a multiplication and an addition are two operations.
    """
    dtype = torch_dtype(mixed_precision)
    # A generator of its own: how many numbers are drawn here depends on timing, and training must be reproducible.
    generator = torch.Generator(device).manual_seed(0)
    fastest, size, seconds = 0.0, 256, 0.0
    while size <= PEAK_LARGEST_SIZE and seconds < PEAK_PROBE_SECONDS:
        left, right = (torch.randn(size, size, device=device, generator=generator).to(dtype) for _ in range(2))
        for _ in range(4):  # the first product only warms up
            start = perf_counter()
            left @ right
            if device.type != "cpu":
                torch.accelerator.synchronize(device)
            seconds = perf_counter() - start
            fastest = max(fastest, 2 * size**3 / seconds)
        size *= 2
    return fastest


def _driver_gpus() -> list[tuple[str, str, int | None]]:
    """Name, driver version and memory in bytes of every GPU that `nvidia-smi` lists; empty without a driver."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, check=True, timeout=4).stdout
        gpus = (line.split(", ") for line in answer.splitlines())
        # GPUs that share the CPU's memory report no number.
        return [(name, driver, int(size) * 2**20 if size.isdigit() else None) for name, driver, size in gpus]
    except (OSError, subprocess.SubprocessError, ValueError):
        return []


def _processor_name() -> str:
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    if platform.system() == "Darwin":
        return subprocess.getoutput("sysctl -n machdep.cpu.brand_string")
    return platform.processor() or platform.machine()


def _short_name(device_name: str) -> str:
    """`Tesla P100-PCIE-16GB` → `p100`."""
    words = device_name.lower().replace("-", " ").split()
    return next((word for word in words if any(letter.isdigit() for letter in word)), words[-1])
