"""What machine this is, what it reaches, and how to get the best out of its processor."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from toxicity.hardware.cpu import usable_cores

# A product of this length is timed well enough; larger ones gain nothing but waiting.
PEAK_PROBE_SECONDS = 0.02
PEAK_LARGEST_SIZE = 8192


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
        "cpu_count": usable_cores(),
        "driver": driver_gpus[0][1] if driver_gpus else None,
        "memory_bytes": next((memory for gpu, _, memory in driver_gpus if gpu == name), None),
        "driver_gpus": [gpu for gpu, _, _ in driver_gpus],
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "wheel_architectures": torch.cuda.get_arch_list(),
    }


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
