"""Numeric precision (fp32, fp16 or bf16): which one a device computes fastest, and its names in torch and in tables.

A precision is named as in Accelerate's configs, where `no` mixed precision stands for fp32.
"""

from __future__ import annotations

import platform
import re
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
    """CUDA compute capability of a GPU, such as `"7.0"`; None for any other device.

    Under ROCm torch calls an AMD GPU `cuda` too, and the numbers of its architecture a capability: they are none.
    """
    import torch

    if device.type != "cuda" or torch.version.hip:
        return None
    return ".".join(map(str, torch.cuda.get_device_capability(device)))


def fastest_precision(device: torch.device) -> str:
    """The fastest precision that a device supports natively: `bf16`, `fp16` or `no`."""
    return best_precision(device)[0]


def best_precision(device: torch.device) -> tuple[str, str]:
    """The best precision of a device, and the reason in words for the log."""
    if device.type == "cpu":
        if has_bf16_instructions():
            return "bf16", "this processor has bf16 instructions"
        return "no", "this processor has no bf16 instructions"
    if device.type != "cuda":
        return "no", "half precision is chosen for CUDA, ROCm and processors only"
    capability = compute_capability(device)
    if capability is None:
        return _best_of_rocm(device)
    major, minor = map(int, capability.split("."))
    if major >= 8:
        return "bf16", "its tensor cores multiply bf16 as fast as fp16, without loss scaling"
    if major == 7:
        return "fp16", "its tensor cores multiply fp16; bf16 came with Ampere"
    if (major, minor) in ((6, 0), (6, 2), (5, 3)):
        # Its units add fp16 at twice the rate of fp32, which torch does not use: its products accumulate in fp32.
        return "fp16", "fp16 takes half the memory; without tensor cores it is hardly faster, and it has no bf16"
    return "no", "it has fast units for neither fp16 nor bf16"


def _best_of_rocm(device: torch.device) -> tuple[str, str]:
    import torch

    architecture = torch.cuda.get_device_properties(device).gcnArchName.split(":")[0]
    # The MI100 and later cards of its line (CDNA), and the RX 7000 and later (RDNA 3).
    if re.fullmatch(r"gfx(908|90a|9[4-9].|1[1-9]..)", architecture):
        return "bf16", "its matrix units multiply bf16 as fast as fp16, without loss scaling"
    return "fp16", "fp16 takes half the memory, and it has no units for bf16"


def has_bf16_instructions() -> bool:
    """Whether the CPU of this machine multiplies bf16 natively."""
    if platform.machine() in ("x86_64", "AMD64"):
        flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
        return "avx512_bf16" in flags or "amx_bf16" in flags
    import torch

    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
