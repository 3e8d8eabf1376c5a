"""What the Trainer's accelerator does beyond its config: scaling on a CPU, sums of FSDP in fp32, compiling by layer."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DynamoBackend


def scale_on_cpu(accelerator: Accelerator) -> None:
    """Compute in fp16 on a CPU too, where Accelerate would compute in fp32 and still report fp16."""
    if accelerator.mixed_precision == "fp16" and accelerator.device.type == "cpu":
        accelerator.native_amp = True
        accelerator.scaler = torch.amp.GradScaler("cpu")


def reduce_in_fp32(accelerator: Accelerator) -> None:
    """With FSDP, sum gradients and return outputs in fp32, where Accelerate would do both in half precision."""
    plugin = getattr(accelerator.state, "fsdp_plugin", None)
    if plugin is None or plugin.mixed_precision_policy is None:
        return
    policy = plugin.mixed_precision_policy
    # The first version of FSDP has no setting for outputs.
    in_fp32 = {"reduce_dtype", "output_dtype"} & {field.name for field in fields(policy)}
    plugin.mixed_precision_policy = replace(policy, **dict.fromkeys(in_fp32, torch.float32))


def take_compiler(accelerator: Accelerator) -> dict[str, Any]:
    """The options of `torch.compile`, from the flags or the Accelerate config; empty if nothing is to be compiled.

    Accelerate then compiles nothing itself: it would compile the model as a whole, in which each packed batch has
    another shape.
    """
    plugin = accelerator.state.dynamo_plugin
    if plugin.backend == DynamoBackend.NO:
        return {}
    options = {"backend": plugin.backend.value.lower(), "mode": plugin.mode, "options": plugin.options}
    plugin.backend = DynamoBackend.NO
    return options
