"""Attention of variable length: torch's kernels that take the comments of a packed batch without padding or mask.

Torch has no public function for them that knows dropout, so its operators are called as its own jagged tensors do
(`torch.nested`). A self-test decides whether a device computes them, and computes them right.

Under `torch.use_deterministic_algorithms` both kernels compute gradients in a fixed order, as they do for SDPA.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from itertools import pairwise

import torch
from torch.nn.functional import scaled_dot_product_attention

logger = logging.getLogger(__name__)

# From query, key and value, `(tokens, heads, head width)` each, boundaries of the comments, int32 `(rows + 1,)`, tokens
# of the longest comment, probability of dropout, and the factor of the scores, to `(tokens, heads, head width)`.
Kernel = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, int, float, float], torch.Tensor]

HALF = (torch.float16, torch.bfloat16)


def flash(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    boundaries: torch.Tensor,
    longest: int,
    dropout: float,
    scaling: float,
) -> torch.Tensor:
    """FlashAttention: half precision from compute capability 8.0 on."""
    return torch.ops.aten._flash_attention_forward(
        query, key, value, boundaries, boundaries, longest, longest, dropout, False, False, scale=scaling
    )[0]


# Its backward pass cannot be traced: the meta kernel in torch raises a TypeError.
@torch.compiler.disable
def memory_efficient(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    boundaries: torch.Tensor,
    longest: int,
    dropout: float,
    scaling: float,
) -> torch.Tensor:
    """The memory-efficient kernel of xFormers: fp32 and half precision from compute capability 5.0 on."""
    with_gradient = torch.is_grad_enabled() and (query.requires_grad or key.requires_grad or value.requires_grad)
    return torch.ops.aten._efficient_attention_forward(
        query[None],
        key[None],
        value[None],
        None,
        boundaries,
        boundaries,
        longest,
        longest,
        dropout,
        0,  # no causal mask
        with_gradient,  # whether to keep what the backward pass needs
        scale=scaling,
    )[0][0]


@functools.cache
def kernel_for(device: torch.device, dtype: torch.dtype, head_width: int) -> Kernel | None:
    """The fastest kernel of variable length that passes a self-test on a device; None if there is none.

    Logs the choice, or why there is none, once for each device, type and width.

    Args:
        dtype: that attention computes in.
        head_width: numbers in a head of the model.
    """
    type_name = str(dtype).removeprefix("torch.")
    reasons = []
    for kernel in (flash, memory_efficient):
        if kernel is flash and (dtype not in HALF or _is_older_than_ampere(device)):
            continue
        if fault := fault_of(kernel, device, dtype, head_width):
            reasons.append(f"{kernel.__name__}: {fault}")
            continue
        logger.info(f"Attention in {type_name} takes comments of variable length, by the kernel {kernel.__name__}.")
        return kernel
    logger.warning(
        f"Attention in {type_name} is padded within groups of comments of similar length, as {device.type} has no "
        f"kernel of variable length that passes the self-test ({'; '.join(reasons)})."
    )
    return None


def fault_of(kernel: Kernel, device: torch.device, dtype: torch.dtype, head_width: int) -> str | None:
    """What is wrong with a kernel on a device, in words; None if results and gradients are those of SDPA.

    A small batch goes forward and backward, and is compared with attention of each comment by itself in fp64. With
    dropout, the backward pass must drop what the forward pass dropped. Torch's random state stays as it was.
    """
    boundaries = [0, 19, 35, 36, 40]
    generator = torch.Generator().manual_seed(0)
    try:
        states = [torch.randn(40, 2, head_width, generator=generator).to(device, dtype) for _ in range(4)]
        *inputs, gradient = states
        where = torch.tensor(boundaries, dtype=torch.int32, device=device)
        scaling = head_width**-0.5

        def one_by_one(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
            comments = [
                scaled_dot_product_attention(*(part[start:stop].transpose(0, 1) for part in (query, key, value)))
                for start, stop in pairwise(boundaries)
            ]
            return torch.cat(comments, dim=1).transpose(0, 1)

        with torch.enable_grad(), torch.autocast(device.type, enabled=False):
            expected = _with_gradients(one_by_one, [part.double() for part in inputs], gradient.double())
            computed = _with_gradients(lambda *parts: kernel(*parts, where, 19, 0.0, scaling), inputs, gradient)
            with torch.random.fork_rng([device] if device.type != "cpu" else [], device_type=device.type):
                dropped = _with_gradients(lambda *parts: kernel(*parts, where, 19, 0.5, scaling), inputs, gradient)
        tolerance = max(1e-3, 8 * torch.finfo(dtype).eps)
        for name, one, other in zip(("results", "gradients", "gradients", "gradients"), computed, expected, strict=True):
            if not torch.allclose(one.double(), other, rtol=tolerance, atol=tolerance):
                return f"its {name} are off by {float((one - other).abs().max()):.2g}"
        # What is dropped does not depend on the values, in which attention is linear: so this holds, but for rounding.
        forward, backward = (dropped[0] * gradient).double().sum(), (dropped[3] * inputs[2]).double().sum()
        if not torch.allclose(forward, backward, rtol=0, atol=float(gradient.double().norm()) * 4 * tolerance):
            return "its dropout differs between the forward and the backward pass"
    except Exception as error:  # whatever a build of torch or a driver raises for a kernel that it lacks
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
    return None


def _with_gradients(
    attend: Callable[..., torch.Tensor], inputs: list[torch.Tensor], gradient: torch.Tensor
) -> list[torch.Tensor]:
    inputs = [part.detach().requires_grad_() for part in inputs]
    result = attend(*inputs)
    return [result.detach(), *torch.autograd.grad(result, inputs, gradient)]


def _is_older_than_ampere(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0)
