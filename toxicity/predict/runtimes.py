"""What computes a model, torch, OpenVINO or ONNX Runtime, and in which precision."""

from __future__ import annotations

import logging
from importlib.util import find_spec

import torch
from transformers import PreTrainedConfig

from toxicity.core.errors import RequestError
from toxicity.hardware.availability import require_bf16
from toxicity.hardware.precision import compute_capability, fastest_precision
from toxicity.models.pretrained import OVERFLOW_IN_FP16, refuse_fp16

RUNTIME_NAMES = {"torch": "torch", "openvino": "OpenVINO", "onnxruntime": "ONNX Runtime"}

logger = logging.getLogger(__name__)


def require_runtime(name: str, runtime_of_export: str | None, runtime: str | None) -> None:
    """Refuse a runtime that cannot compute a model, as it is another one's export, or no export."""
    if runtime not in (None, *RUNTIME_NAMES):
        raise RequestError(f"there is no runtime {runtime}: choose {', '.join(RUNTIME_NAMES)}.")
    if runtime_of_export and runtime not in (None, runtime_of_export):
        raise RequestError(
            f"{name} is an export, which {RUNTIME_NAMES[runtime_of_export]} computes: leave runtime out, or name the "
            "model that it was made of."
        )
    if runtime == "onnxruntime" and not runtime_of_export:
        raise RequestError(
            f"ONNX Runtime computes exports, and {name} is none: write one with python -m toxicity.predict --model "
            f"{name} --export onnx --output FOLDER, and name FOLDER/fp32 or FOLDER/int8."
        )


def fastest_runtime(device: torch.device, mixed_precision: str | None) -> str:
    """What computes a model that is no export fastest: OpenVINO, where it (not a mere folder) is installed."""
    on_cpu = device.type == "cpu" and mixed_precision != "fp16"
    return "openvino" if on_cpu and getattr(find_spec("openvino"), "origin", None) else "torch"


def precision_of(runtime: str, device: torch.device, asked: str | None, config: PreTrainedConfig, name: str) -> str:
    """The precision to compute in: the one asked for, else the fastest that the model does not overflow in."""
    if runtime == "onnxruntime":  # an export has its own, whatever it is
        if asked:
            raise RequestError(
                f"{name} is an export: ONNX Runtime computes it in the precision that it was exported in. Leave "
                "mixed_precision out."
            )
        return "no"
    if runtime == "openvino" and asked == "fp16":
        raise RequestError("OpenVINO computes in fp32 or bf16 on the CPU: choose mixed_precision no or bf16.")
    if asked == "fp16":
        refuse_fp16(config, name, "score it in fp32 (mixed_precision no)")
    if asked == "bf16" and device.type == "cuda":
        card = torch.cuda.get_device_name(device), compute_capability(device)
        require_bf16(*card, "Leave mixed_precision out, which chooses the fastest one that it has.")
    precision = asked or fastest_precision(device)
    if precision == "fp16" and config.model_type in OVERFLOW_IN_FP16:
        logger.info(f"Scoring in fp32, as models of the kind {config.model_type} can overflow in fp16.")
        return "no"
    return precision
