"""Attention of variable length: torch's kernels that take the comments of a packed batch without padding or mask.

Torch has no public function for them that knows dropout, so its operators are called as its own jagged tensors do
(`torch.nested`). A self-test decides whether a device computes them, and computes them right.

Under `torch.use_deterministic_algorithms` both kernels compute gradients in a fixed order, as they do for SDPA.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from itertools import accumulate, pairwise

import torch
from torch.nn.functional import scaled_dot_product_attention

from toxicity.core.errors import one_line

logger = logging.getLogger(__name__)

# From query, key and value, `(tokens, heads, head width)` each, boundaries of the comments, int32 `(rows + 1,)`, tokens
# of the longest comment, probability of dropout, and the factor of the scores, to `(tokens, heads, head width)`.
Kernel = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, int, float, float], torch.Tensor]

HALF = (torch.float16, torch.bfloat16)

# What `kernel_for` chose. Not by `functools.cache`, whose functions torch.compile would trace into, and test anew.
_kernels: dict[tuple[torch.device, torch.dtype, int, bool], Kernel | None] = {}


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    boundaries: torch.Tensor,
    longest: int,
    dropout: float,
    scaling: float,
) -> torch.Tensor:
    """Attention within each comment of a packed batch, by the kernel for the device; see `Kernel` for the arguments.

    Raises:
        NotImplementedError: on a device without such a kernel, for which `padding_free.layout_for` chooses groups.
    """
    device = query.device
    if torch.is_autocast_enabled(device.type):
        # Autocast does not know these operators.
        dtype = torch.get_autocast_dtype(device.type)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    kernel = kernel_for(device, query.dtype, query.shape[-1], dropout > 0)
    if kernel is None:
        raise NotImplementedError(f"no kernel for attention of variable length in {query.dtype} on {device}")
    return kernel(query, key, value, boundaries, longest, dropout, scaling)


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
    )[0].squeeze(0)


def kernel_for(device: torch.device, dtype: torch.dtype, head_width: int, dropout: bool = False) -> Kernel | None:
    """The fastest kernel of variable length that passes a self-test on a device; None if there is none.

    Logs the choice, or why there is none, once for each device, type and width, with dropout and without.

    Args:
        dtype: that attention computes in.
        head_width: numbers in a head of the model.
        dropout: whether attention drops weights. As of torch 2.13, the source of the memory-efficient kernel does so by
            other random numbers in the backward pass than in the forward pass, if lengths vary.
    """
    if device.type == "cuda" and device.index is None and torch.cuda.is_available():
        device = torch.device("cuda", torch.cuda.current_device())
    key = device, dtype, head_width, dropout
    if key not in _kernels:
        _kernels[key] = _choose_kernel(*key)
    return _kernels[key]


def _choose_kernel(device: torch.device, dtype: torch.dtype, head_width: int, dropout: bool) -> Kernel | None:
    what = f"Attention {'with dropout ' if dropout else ''}in {str(dtype).removeprefix('torch.')}"
    faults = []
    for kernel in (flash, memory_efficient) if dtype in HALF else (memory_efficient,):
        fault = fault_of(kernel, device, dtype, head_width, dropout)
        if fault is None:
            logger.info(f"{what} takes comments of variable length, by the kernel {kernel.__name__}.")
            return kernel
        faults.append(f"{kernel.__name__}: {fault}")
    logger.info(
        f"{what} is padded within groups of comments of similar length, as no kernel of variable "
        f"length passes the self-test on {device} ({'; '.join(faults)})."
    )
    return None


# Or there would be no gradients where the caller is in inference mode.
@torch.inference_mode(mode=False)
def fault_of(
    kernel: Kernel, device: torch.device, dtype: torch.dtype, head_width: int, dropout: bool = False
) -> str | None:
    """What is wrong with a kernel on a device, in words; None if results and gradients are those of SDPA.

    A small batch goes forward and backward, and is compared with attention of each comment by itself in fp64. With
    `dropout`, the backward pass must drop what the forward pass dropped. Torch's random state stays as it was.
    """
    # Kernels go through queries and keys in blocks of 32 to 128: more than one, the last of them not full.
    lengths = [300, 129, 1, 16]
    boundaries = [0, *accumulate(lengths)]
    generator = torch.Generator().manual_seed(0)
    try:
        if torch.version.hip or device.type not in ("cuda", "cpu"):
            return "only tried on cards of NVIDIA"
        if kernel is flash and device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0):
            return "needs a card of compute capability 8.0"
        *inputs, gradient = (
            torch.randn(sum(lengths), 2, head_width, generator=generator).to(device, dtype)
            for _ in ("q", "k", "v", "gradient")
        )
        where = torch.tensor(boundaries, dtype=torch.int32, device=device)

        def one_by_one(*parts: torch.Tensor) -> torch.Tensor:
            comments = (
                scaled_dot_product_attention(*(part[start:stop].transpose(0, 1) for part in parts))
                for start, stop in pairwise(boundaries)
            )
            return torch.cat(list(comments), dim=1).transpose(0, 1)

        def by_kernel(*parts: torch.Tensor, dropout: float = 0.0) -> torch.Tensor:
            return kernel(*parts, where, lengths[0], dropout, head_width**-0.5)

        forked = torch.random.fork_rng([] if device.type == "cpu" else [device], device_type=device.type)
        with forked, torch.enable_grad(), torch.autocast(device.type, enabled=False):
            expected = _with_gradients(one_by_one, [part.double() for part in inputs], gradient.double())
            computed = _with_gradients(by_kernel, inputs, gradient)
            dropped = _with_gradients(partial(by_kernel, dropout=0.5), inputs, gradient) if dropout else []
            # Without gradients the kernel keeps less.
            computed, expected = [*computed, by_kernel(*inputs)], [*expected, expected[0]]
        tolerance = max(1e-3, 8 * torch.finfo(dtype).eps)
        errors = [
            ((one - other).abs() / (1 + other.abs())).max() for one, other in zip(computed, expected, strict=True)
        ]
        off = float(torch.stack(errors).max())
        if not off <= tolerance:
            return f"off by {off:.2g}"
        if dropout:
            # What is dropped does not depend on the values, in which attention is linear: so the first two are equal.
            forward, backward, squares = (
                torch.stack([of_comment.sum((0, 2)) for of_comment in (one.double() * other).split(lengths)])
                for one, other in ((dropped[0], gradient), (dropped[3], inputs[2]), (gradient, gradient))
            )
            if not float(((forward - backward).abs() / squares.sqrt()).max()) <= tolerance:
                return "another dropout in the backward pass than in the forward pass"
    except Exception as error:  # whatever a build of torch or a driver raises for a kernel that it lacks
        return f"{type(error).__name__}: {one_line(error)}"
    return None


def _with_gradients(
    attend: Callable[..., torch.Tensor], inputs: list[torch.Tensor], gradient: torch.Tensor
) -> list[torch.Tensor]:
    inputs = [part.detach().requires_grad_() for part in inputs]
    result = attend(*inputs)
    return [result.detach(), *torch.autograd.grad(result, inputs, gradient)]
