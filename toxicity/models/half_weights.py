"""Weights in half precision for autocast, converted once per encoder layer instead of once per weight and bias.

Autocast converts each weight in a kernel of its own for every forward pass, and each gradient back for every backward
pass: of a BERT layer 12 of some 30 kernels forward. On a fast GPU, which waits for kernels to be launched, that is
time. Here one kernel converts all weights of a layer, and one their gradients; the numbers are those of autocast.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn


def cast_once(model: nn.Module, dtype: torch.dtype) -> None:
    """Make the linear layers of each encoder layer compute with weights that were converted together.

    That happens under autocast to `dtype` only, and while the encoder layer computes; `model.parameters()`, its
    gradients and what is saved stay as they are. Not for FSDP, which converts by itself, nor for `torch.compile`,
    which fuses the conversions.

    Args:
        model: any model whose encoder layers are numbered (elements of an `nn.ModuleList`), with fp32 weights.
        dtype: fp16 or bf16, that of autocast.
    """
    for layer in encoder_layers(model):
        linears = [module for module in layer.modules() if isinstance(module, nn.Linear)]
        layer.register_forward_pre_hook(partial(_use_half_weights, linears, dtype))
        # Called after an error too, or the weights would stay out of reach.
        layer.register_forward_hook(partial(_use_own_weights, linears), always_call=True)


def encoder_layers(model: nn.Module) -> list[nn.Module]:
    """The numbered layers of a model, not those within them."""
    return [
        module
        for name, module in model.named_modules()
        if [part.isdigit() for part in name.split(".")].count(True) == 1 and name.split(".")[-1].isdigit()
    ]


def _use_half_weights(linears: list[nn.Linear], dtype: torch.dtype, layer: nn.Module, inputs: Any) -> None:
    device = linears[0].weight.device.type if linears else "cpu"
    if not (linears and torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == dtype):
        return
    own = {(linear, name): weight for linear in linears for name, weight in linear.named_parameters(recurse=False)}
    for (linear, name), weight in zip(own, _Cast.apply(dtype, *own.values()), strict=True):
        # An attribute of the instance hides the parameter of that name from `forward`, and from nothing else.
        linear.__dict__[name] = weight


def _use_own_weights(linears: list[nn.Linear], layer: nn.Module, inputs: Any, outputs: Any) -> None:
    for linear in linears:
        for name in ("weight", "bias"):
            linear.__dict__.pop(name, None)


class _Cast(torch.autograd.Function):
    """Tensors in another dtype, in one kernel; their gradients in the tensors' own, in one kernel too."""

    @staticmethod
    def forward(context: Any, dtype: torch.dtype, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        # Without this, the gradient of a weight that was not used would be zeros, and so be decayed.
        context.set_materialize_grads(False)
        context.dtypes = [tensor.dtype for tensor in tensors]
        converted = [torch.empty_like(tensor, dtype=dtype) for tensor in tensors]
        torch._foreach_copy_(converted, list(tensors))
        frozen = [new for new, needed in zip(converted, context.needs_input_grad[1:], strict=True) if not needed]
        context.mark_non_differentiable(*frozen)
        return tuple(converted)

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        known = [index for index, gradient in enumerate(gradients) if gradient is not None]
        converted = {index: torch.empty_like(gradients[index], dtype=context.dtypes[index]) for index in known}
        if known:
            torch._foreach_copy_(list(converted.values()), [gradients[index] for index in known])
        return None, *map(converted.get, range(len(gradients)))
