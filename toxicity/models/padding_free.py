"""BERT and its siblings on packed batches: the tokens of many comments concatenated, so that no padding is computed.

Linear layers, normalisation and dropout treat every token on its own, so they work on a packed batch as it is.
Attention must stay within each comment: it takes comments of variable length, or is computed for groups of comments of
similar length. Classes, weights and results are those of `transformers`, so FSDP, hooks and gradient checkpointing work
as usual: all that is added is the attention and a hook that gives the head the first token of each comment.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.modeling_outputs import BaseModelOutput

from toxicity.core.errors import RequestError
from toxicity.models.classifier import output_layer
from toxicity.models.cpu_layers import Linear, fast_dropout
from toxicity.models.packing import Group, Layout, Packing
from toxicity.models.pretrained import POSITIONS_AFTER_PADDING
from toxicity.models.varlen_attention import kernel_for

# The name of this attention implementation in `config._attn_implementation`.
PACKED_ATTENTION = "packed"
# Model types whose embeddings, encoder and head take packed batches: all that pool the first token, and hand arguments
# of their forward on to attention.
PACKED_TYPES = ("bert", "camembert", "distilbert", "electra", "roberta", "xlm-roberta")


class OutputLayer(Linear):
    """A head's last layer, which computes in fp32 under autocast too.

    That costs nothing here, and logits with the 8 significant bits of bf16 would give many equal scores.
    """

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Logits, in the type of the weights."""
        with torch.autocast(states.device.type, enabled=False):
            return super().forward(states.to(self.weight.dtype))


def can_be_packed(config: PreTrainedConfig) -> bool:
    """Whether a model with this config computes packed batches after `make_padding_free`."""
    return config.model_type in PACKED_TYPES and not getattr(config, "is_decoder", False)


def make_padding_free(model: PreTrainedModel) -> None:
    """Extend a classifier of `transformers`, whose config `can_be_packed`, to packed batches (see `packing.Layout`).

    Without `packing` among its arguments the model computes what it did.
    """
    model.set_attn_implementation(PACKED_ATTENTION)
    base = model.base_model
    encoder = base.transformer if hasattr(base, "transformer") else base.encoder
    encoder.register_forward_hook(_take_first_tokens, with_kwargs=True)
    compute_logits_in_fp32(model)


def compute_logits_in_fp32(model: PreTrainedModel) -> None:
    """Make a head's last layer an `OutputLayer`, if the head ends with a linear one."""
    with suppress(RequestError):
        output_layer(model)[1].__class__ = OutputLayer


def is_packed(model: nn.Module) -> bool:
    """Whether a model takes packed batches."""
    return getattr(getattr(model, "config", None), "_attn_implementation", None) == PACKED_ATTENTION


def layout_for(
    model: nn.Module, device: torch.device, pad_token_id: int, dtype: torch.dtype = torch.float32
) -> Layout:
    """The batch layout for a model on a device; on an accelerator, attention tests itself once and logs its choice.

    `dtype` is the one that attention computes in, under autocast that of autocast.
    """
    packed = is_packed(model)
    grouping = "equal"
    if device.type != "cpu":
        kernel = None
        if packed:
            heads = model.config.num_attention_heads
            kernel = kernel_for(device, dtype, model.config.hidden_size // heads)
        grouping = "none" if kernel else "similar"
    first_position = 0
    if packed and model.config.model_type in POSITIONS_AFTER_PADDING:
        first_position = model.config.pad_token_id + 1
    return Layout(
        packed=packed,
        pad_token_id=pad_token_id,
        # Tensor cores are faster with multiples of 8; other devices gain nothing from them.
        pad_to_multiple_of=8 if device.type == "cuda" else 1,
        grouping=grouping,
        first_position=first_position,
        dtype=dtype,
    )


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
    if packing.boundaries is not None:
        states = [part[0].transpose(0, 1) for part in (query, key, value)]
        if torch.is_autocast_enabled(query.device.type):
            # Autocast does not know these operators.
            states = [part.to(torch.get_autocast_dtype(query.device.type)) for part in states]
        kernel = kernel_for(query.device, states[0].dtype, query.shape[-1])
        if kernel is None:
            raise NotImplementedError(f"no kernel of variable length for {states[0].dtype} on {query.device}")
        return kernel(*states, packing.boundaries, packing.longest, dropout, scaling)[None], None
    sizes = [group.rows * group.longest for group in packing.groups]
    if query.device.type == "cpu":
        # Contiguous with the heads first, so that each comment's states are matrices in memory, with no copy per group.
        query, key, value = (states.contiguous() for states in (query, key, value))
    parts = zip(*(states[0].split(sizes, dim=1) for states in (query, key, value)), strict=True)
    attended = [_attend(group, *part, dropout, scaling) for group, part in zip(packing.groups, parts, strict=True)]
    if query.device.type == "cpu":
        return torch.cat(attended, dim=1).transpose(0, 1)[None], None
    # The next layer takes the heads of a token beside each other, as the kernels leave them.
    return torch.cat([group.transpose(0, 1) for group in attended])[None], None


def _attend(
    group: Group, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, dropout: float, scaling: float
) -> torch.Tensor:
    """Attention of one group of comments, from `(heads, places, head width)` to the same shape."""
    heads, places, width = query.shape
    if group.mask is None and query.device.type == "cpu" and query.dtype == torch.bfloat16:
        # On a CPU, the backward pass of SDPA in bf16 takes ten times as long as two batched matrix products.
        query, key, value = (part.reshape(heads * group.rows, group.longest, width) for part in (query, key, value))
        scores = torch.baddbmm(query.new_empty(1, 1, 1), query, key.transpose(1, 2), beta=0, alpha=scaling)
        return torch.bmm(fast_dropout(scores.softmax(-1), dropout), value).view(heads, places, width)
    query, key, value = (
        states.unflatten(1, (group.rows, group.longest)).transpose(0, 1) for states in (query, key, value)
    )
    mask = None
    if group.mask is not None:
        mask = group.mask.to(query.dtype).expand(-1, 1, group.longest, -1)
    attended = scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout, scale=scaling)
    return attended.transpose(0, 1).reshape(heads, places, width)


def _take_first_tokens(
    encoder: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any], output: BaseModelOutput
) -> BaseModelOutput:
    """A forward hook of an encoder: of a packed batch, only each comment's first token goes on, `(rows, 1, width)`."""
    packing = options.get("packing")
    if packing is not None:
        first_tokens = output.last_hidden_state[0].index_select(0, packing.first_tokens)
        output.last_hidden_state = first_tokens[:, None]
    return output


AttentionInterface.register(PACKED_ATTENTION, packed_attention)
# The mask function for padded batches, which `packed_attention` hands to SDPA.
AttentionMaskInterface.register(PACKED_ATTENTION, sdpa_mask)
