"""Which number format a device computes fastest, and why."""

from __future__ import annotations

import platform
from pathlib import Path

import torch


def fastest_precision(device: torch.device) -> str:
    """The fastest precision that a device computes natively: `bf16`, `fp16` or `no`, which is fp32."""
    if device.type not in ("cpu", "cuda"):
        return "no"
    capability = None
    if device.type == "cuda":
        capability = ".".join(map(str, torch.cuda.get_device_capability(device)))
    return judge_precision("", capability)[1]


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
        best = "bf16" if (has_bf16_instructions() if has_bf16 is None else has_bf16) else "no"
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


def has_bf16_instructions() -> bool:
    """Whether this processor multiplies bf16 natively."""
    if platform.machine() in ("x86_64", "AMD64"):
        flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
        return "avx512_bf16" in flags or "amx_bf16" in flags
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
