"""Attention of packed batches, and masks of padded ones, as functions that `transformers` finds by a name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask, sdpa_mask

from toxicity.models.cpu_layers import fast_dropout
from toxicity.models.packing import Group, Packing
from toxicity.models.varlen_attention import attend

# The name of this attention implementation in `config._attn_implementation`.
PACKED_ATTENTION = "packed"
# Devices on which to ask for a value costs nothing.
NEVER_BUSY = ("cpu",)


def packed_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float,
    scaling: float,
    packing: Packing | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention within each comment of a packed batch; SDPA for a padded batch, which has no `packing`.

    A function for `transformers.AttentionInterface`: from query, key and value, `(1, heads, places, head width)` each,
    to `(1, places, heads, head width)`, and None in place of the attention weights.
    """
    if packing is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
    # Not by an index, whose gradient would be copied into zeros.
    states = query.squeeze(0), key.squeeze(0), value.squeeze(0)
    if packing.boundaries is not None:
        states = (part.transpose(0, 1) for part in states)
        return attend(*states, packing.boundaries, packing.longest, dropout, scaling)[None], None
    on_cpu = query.device.type == "cpu"
    if on_cpu:
        # Contiguous with the heads first, so that each comment's states are matrices in memory, with no copy per group.
        states = (part.contiguous() for part in states)
    sizes = [group.rows * group.longest for group in packing.groups]
    parts = zip(*(part.split(sizes, dim=1) for part in states), strict=True)
    attended = [_attend(group, *part, dropout, scaling) for group, part in zip(packing.groups, parts, strict=True)]
    if on_cpu:
        return torch.cat(attended, dim=1).transpose(0, 1)[None], None
    # The heads of a token beside each other, as the kernels leave them and the next layer takes them.
    return torch.cat([group.transpose(0, 1) for group in attended])[None], None


def _attend(
    group: Group, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, dropout: float, scaling: float
) -> torch.Tensor:
    """Attention of one group of comments, from `(heads, places, head width)` to the same shape."""
    heads, places, width = query.shape
    if group.mask is None and query.device.type == "cpu" and (dropout or query.dtype == torch.bfloat16):
        # On a CPU, the backward pass of SDPA in bf16 takes ten times as long as two batched matrix products, and its
        # dropout several times as long as ours.
        query, key, value = (part.reshape(heads * group.rows, group.longest, width) for part in (query, key, value))
        scores = torch.baddbmm(query.new_empty(1, 1, 1), query, key.transpose(1, 2), beta=0, alpha=scaling)
        return torch.bmm(fast_dropout(scores.softmax(-1), dropout), value).view(heads, places, width)
    query, key, value = (
        states.unflatten(1, (group.rows, group.longest)).transpose(0, 1) for states in (query, key, value)
    )
    mask = None if group.mask is None else group.mask.to(query.dtype).expand(-1, 1, group.longest, -1)
    attended = scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout, scale=scaling)
    return attended.transpose(0, 1).reshape(heads, places, width)


def without_waiting(make_mask: Callable[..., torch.Tensor | None]) -> Callable[..., torch.Tensor | None]:
    """A mask function of `transformers` that makes the mask of a padded batch without asking whether it is needed.

    The library's own leave a mask out that masks nothing, and wait for an accelerator to tell. `Layout` makes none
    then. On a CPU there is nothing to wait for, and all stays as it is.
    """

    @functools.wraps(make_mask)
    def made(*arguments: Any, **options: Any) -> torch.Tensor | None:
        padding = options.get("attention_mask")
        if padding is not None and padding.device.type not in NEVER_BUSY:
            options |= {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
        return make_mask(*arguments, **options)

    return made


AttentionInterface.register(PACKED_ATTENTION, packed_attention)
# The mask function for padded batches, which `packed_attention` hands to SDPA.
AttentionMaskInterface.register(PACKED_ATTENTION, without_waiting(sdpa_mask))
AttentionMaskInterface.register("sdpa", without_waiting(sdpa_mask))
AttentionMaskInterface.register("eager", without_waiting(eager_mask))
