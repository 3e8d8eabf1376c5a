"""Dropout and linear layers that are faster on a CPU than those of `torch.nn`, with equivalent results."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.functional import dropout, linear

# What `drawing_from` set in this thread.
_drawing = threading.local()


@contextmanager
def drawing_from(generator: torch.Generator) -> Iterator[None]:
    """Have the dropout of this thread draw its random numbers from a generator, and not from that of all threads."""
    _drawing.generator = generator
    try:
        yield
    finally:
        _drawing.generator = None


def fast_dropout(states: torch.Tensor, p: float) -> torch.Tensor:
    """Dropout in training mode that draws 16 random bits per element on a CPU.

    `torch.nn.functional.dropout` draws a float per element there, which takes more than twice as long.

    Args:
        states: any tensor.
        p: probability of zeroing an element; on a CPU it is rounded to a multiple of 1/65536.
    """
    if p == 0.0:
        return states
    if p == 1.0 or states.device.type != "cpu":
        return dropout(states, p)
    return _SixteenBitDropout.apply(states, p)


class Dropout(nn.Dropout):
    """`nn.Dropout` that uses `fast_dropout`."""

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Apply dropout in training mode; return the input otherwise."""
        return fast_dropout(states, self.p) if self.training else states


class _SixteenBitDropout(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, states: torch.Tensor, p: float) -> torch.Tensor:
        count = states.numel()
        # Each random 64-bit integer holds the bits of four elements.
        bits = torch.empty(-(-count // 4), dtype=torch.int64)
        bits.random_(-(2**63), None, generator=getattr(_drawing, "generator", None))
        bits = bits.view(torch.int16)[:count]
        factor = torch.empty_like(states, memory_format=torch.contiguous_format)
        # Of what was kept, as a number at once: the conversion of a bool takes longer than all the rest.
        torch.ge(bits.view(states.shape), round(p * 2**16) - 2**15, out=factor).mul_(1.0 / (1.0 - p))
        context.save_for_backward(factor)
        return states * factor

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (factor,) = context.saved_tensors
        return gradient * factor, None


class Linear(nn.Linear):
    """`nn.Linear` that adds the bias after the matrix product: oneDNN's fused bf16 product and bias is 10 % slower."""

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """`states @ weight.T + bias`."""
        if states.device.type != "cpu" or self.bias is None:
            return super().forward(states)
        product = linear(states, self.weight)
        return product.add_(self.bias.to(product.dtype))


def use_faster_layers(model: nn.Module) -> None:
    """Replace the dropout and linear layers of a model by the ones above, which take over its parameters."""
    for parent in list(model.modules()):
        for name, layer in parent.named_children():
            if type(layer) is nn.Dropout:
                setattr(parent, name, Dropout(layer.p).train(layer.training))
            elif type(layer) is nn.Linear:
                # On the meta device nothing is allocated or drawn at random for parameters that are replaced at once.
                faster = Linear(layer.in_features, layer.out_features, device="meta").train(layer.training)
                faster.weight, faster.bias = layer.weight, layer.bias
                setattr(parent, name, faster)
