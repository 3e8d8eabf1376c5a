"""Describe this machine for the report, and measure how fast it multiplies matrices."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from toxicity.hardware.cpu import usable_cores
from toxicity.hardware.kinds import short_name
from toxicity.hardware.memory import is_out_of_memory
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
        `label`, `device_type` (`cpu`, `cuda`, `mps`), `device_name`, `compute_capability` (such as `"7.0"`, None but
        for NVIDIA's GPUs), `device_count`, `cpu_count`; `driver`, and `memory_bytes` of that GPU or slice of one (MIG),
        of Apple's what the system recommends at most; `driver_gpus`, the names of all GPUs that NVIDIA's driver lists,
        whether torch can use them or not; `torch`, `cuda` and `hip` (the version of CUDA or ROCm that torch is built
        for, else None) and `wheel_architectures`, the GPU architectures that this build of torch has kernels for.
    """
    cards = driver_gpus()
    memory = None
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        # Some of AMD's cards have no name but that of their architecture.
        name = torch.cuda.get_device_name(device) or getattr(properties, "gcnArchName", "").split(":")[0]
        # Not what the driver says, which of a slice is the memory of the whole card.
        memory = properties.total_memory
    else:
        name = _processor_name()
        if device.type == "mps":
            memory = torch.mps.recommended_max_memory()
    return {
        "label": device.type if device.type != "cuda" else short_name(name),
        "device_type": device.type,
        "device_name": name,
        "compute_capability": compute_capability(device),
        "device_count": device_count,
        "cpu_count": usable_cores(),
        "driver": cards[0][1] if cards else None,
        "memory_bytes": memory,
        "driver_gpus": [gpu for gpu, _ in cards],
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "hip": torch.version.hip,
        "wheel_architectures": torch.cuda.get_arch_list(),
    }


def measure_matmul_peak(device: torch.device, mixed_precision: str) -> float:
    """Measure the FLOP/s of square matrix products on a device: the upper bound for any training run on it.

    The size doubles while a product takes less than `PEAK_PROBE_SECONDS`, so that this takes about a second on any
    machine, or until the device's memory is full. The fastest product counts; a multiplication and an addition are two
    operations.
    """
    dtype = torch_dtype(mixed_precision)
    # A generator of its own: how many numbers are drawn here depends on timing, and training must be reproducible.
    generator = torch.Generator(device).manual_seed(0)
    fastest, size, seconds = 0.0, 256, 0.0
    while size <= PEAK_LARGEST_SIZE and seconds < PEAK_PROBE_SECONDS:
        try:
            left, right = (torch.randn(size, size, device=device, generator=generator).to(dtype) for _ in range(2))
            for _ in range(4):  # the first product only warms up
                start = perf_counter()
                left @ right
                if device.type != "cpu":
                    torch.accelerator.synchronize(device)
                seconds = perf_counter() - start
                fastest = max(fastest, 2 * size**3 / seconds)
        except RuntimeError as error:
            if not fastest or not is_out_of_memory(error):
                raise
            break
        size *= 2
    return fastest


def driver_gpus() -> list[tuple[str, str]]:
    """Name and driver version of every GPU that `nvidia-smi` lists, those that are hidden too; empty without a driver.

    It gives the whole card's name where torch sees a slice of it.
    """
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, check=True, timeout=4).stdout
        return [(name, driver) for name, driver in (line.rsplit(", ", 1) for line in answer.splitlines())]
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
