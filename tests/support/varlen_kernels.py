"""Stand-ins on the CPU for torch's CUDA kernels of variable-length attention, so that what calls them can be tested.

Their arguments, results and layouts are those of the operators in torch; each comment is computed on its own, in fp32.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch


@contextmanager
def kernels_on_cpu() -> Iterator[list[str]]:
    """Give torch both kernels on the CPU within the `with` block; yields the names of the operators called so far."""
    calls: list[str] = []
    library = torch.library.Library("aten", "IMPL")

    def efficient_forward(q, k, v, bias, cu_q, cu_k, max_q, max_k, p, mask, lse=False, *, scale=None, **others):
        calls.append("_efficient_attention_forward")
        assert (q.dim(), q.shape[0], bias, mask) == (4, 1, None, 0), "a packed batch without a mask"
        seed = torch.randint(2**31, (), dtype=torch.int64)
        out = _forward(q[0], k[0], v[0], cu_q, max_q, p, scale, seed)[None]
        return out, q.new_zeros(1, dtype=torch.float32), seed, torch.zeros_like(seed), max_q, max_k

    def efficient_backward(
        grad, q, k, v, bias, out, cu_q, cu_k, max_q, max_k, lse, p, seed, offset, mask, of_bias, *, scale=None, **others
    ):
        calls.append("_efficient_attention_backward")
        gradients = _backward(grad[0], q[0], k[0], v[0], cu_q, p, scale, seed)
        return *(gradient[None] for gradient in gradients), q.new_zeros(0)

    def flash_forward(q, k, v, cu_q, cu_k, max_q, max_k, p, causal, debug, *, scale=None, **others):
        calls.append("_flash_attention_forward")
        assert (q.dim(), causal) == (3, False), "a packed batch without a mask"
        assert q.dtype in (torch.float16, torch.bfloat16), "flash attention computes in half precision"
        assert q.shape[-1] % 8 == 0, "flash attention takes heads of multiples of 8"
        seed = torch.randint(2**31, (), dtype=torch.int64)
        out = _forward(q, k, v, cu_q, max_q, p, scale, seed)
        return out, q.new_zeros(1, dtype=torch.float32), seed, torch.zeros_like(seed), q.new_zeros(0)

    def flash_backward(
        grad, q, k, v, out, lse, cu_q, cu_k, max_q, max_k, p, causal, seed, unused, *, scale=None, **others
    ):
        calls.append("_flash_attention_backward")
        return _backward(grad, q, k, v, cu_q, p, scale, seed)

    for name, kernel in (
        ("_efficient_attention_forward", efficient_forward),
        ("_efficient_attention_backward", efficient_backward),
        ("_flash_attention_forward", flash_forward),
        ("_flash_attention_backward", flash_backward),
    ):
        library.impl(name, kernel, "CPU")
    try:
        yield calls
    finally:
        library._destroy()


def _forward(q, k, v, cu, longest, p, scale, seed):
    """Attention within each comment, from `(tokens, heads, width)` to the same shape."""
    assert cu.dtype == torch.int32, "lengths are int32"
    assert q.stride(-1) == k.stride(-1) == v.stride(-1) == 1, "a head's numbers lie beside each other"
    assert int(cu[-1]) == len(q), "every token belongs to a comment"
    assert int(cu.diff().max()) <= longest, "no comment is longer than the longest"
    generator = torch.Generator().manual_seed(int(seed))
    out = torch.empty_like(q, memory_format=torch.contiguous_format)
    for start, stop in pairwise(cu.tolist()):
        weights, kept = _weights(q[start:stop], k[start:stop], p, scale, generator)
        out[start:stop] = torch.einsum("hqk,khd->qhd", weights * kept, v[start:stop].float()).to(q.dtype)
    return out


def _weights(q, k, p, scale, generator):
    """The attention weights of a comment, and the factors of dropout, `(heads, queries, keys)` each."""
    weights = (torch.einsum("qhd,khd->hqk", q.float(), k.float()) * scale).softmax(-1)
    return weights, (torch.rand(weights.shape, generator=generator) >= p).float() / (1 - p)


def _backward(grad, q, k, v, cu, p, scale, seed):
    generator = torch.Generator().manual_seed(int(seed))
    gradients = tuple(torch.empty_like(q, memory_format=torch.contiguous_format) for _ in range(3))
    for start, stop in pairwise(cu.tolist()):
        part = slice(start, stop)
        weights, kept = _weights(q[part], k[part], p, scale, generator)
        out = grad[part].float()
        of_weights = torch.einsum("qhd,khd->hqk", out, v[part].float()) * kept
        of_scores = weights * (of_weights - (of_weights * weights).sum(-1, keepdim=True)) * scale
        gradients[0][part] = torch.einsum("hqk,khd->qhd", of_scores, k[part].float()).to(q.dtype)
        gradients[1][part] = torch.einsum("hqk,qhd->khd", of_scores, q[part].float()).to(q.dtype)
        gradients[2][part] = torch.einsum("hqk,qhd->khd", weights * kept, out).to(q.dtype)
    return gradients
