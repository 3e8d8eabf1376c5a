"""Numeric precision (fp32, fp16 or bf16): which one a device computes fastest, and its names in torch and in tables.

A precision is named as in Accelerate's configs, where `no` mixed precision stands for fp32.
"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING

# torch takes seconds to import, and tables of runs only need the names: it is imported where a function uses it.
if TYPE_CHECKING:
    import torch


def precision_name(mixed_precision: str) -> str:
    """The name of a precision in tables and logs: `fp32` for `no`, the others as they are."""
    return "fp32" if mixed_precision == "no" else mixed_precision


def torch_dtype(mixed_precision: str) -> torch.dtype:
    """The torch dtype that a precision (`no`, `fp16` or `bf16`) computes in."""
    import torch

    return {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[mixed_precision]


def compute_capability(device: torch.device) -> str | None:
    """CUDA compute capability of a GPU, such as `"7.0"`; None for any other device."""
    import torch

    return ".".join(map(str, torch.cuda.get_device_capability(device))) if device.type == "cuda" else None


def fastest_precision(device: torch.device) -> str:
    """The fastest precision that a device supports natively: `bf16`, `fp16` or `no`."""
    return best_precision(compute_capability(device))[0] if device.type in ("cpu", "cuda") else "no"


def best_precision(capability: str | None) -> tuple[str, str]:
    """The best precision of a GPU with this capability, or of this CPU (None), and the reason in words for the log."""
    if capability is None:
        if has_bf16_instructions():
            return "bf16", "this processor has bf16 instructions"
        return "no", "this processor has no bf16 instructions"
    major, minor = map(int, capability.split("."))
    if major >= 8:
        return "bf16", "its tensor cores multiply bf16 as fast as fp16, without loss scaling"
    if major == 7:
        return "fp16", "its tensor cores multiply fp16; bf16 came with Ampere"
    if (major, minor) in ((6, 0), (6, 2), (5, 3)):
        return "fp16", "it multiplies fp16 at twice the rate of fp32, and has no bf16"
    return "no", "it has fast units for neither fp16 nor bf16"


def has_bf16_instructions() -> bool:
    """Whether the CPU of this machine multiplies bf16 natively."""
    if platform.machine() in ("x86_64", "AMD64"):
        flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
        return "avx512_bf16" in flags or "amx_bf16" in flags
    import torch

    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
