"""BERT on packed batches: the tokens of many comments concatenated, so that almost nothing is computed for padding.

Linear layers, normalisation and dropout treat every token on its own, so they work on a packed batch as it is.
Attention must stay within each comment: it is computed for groups of comments of similar length. Modules, weights and
results are those of `transformers`, so FSDP, hooks and gradient checkpointing work as usual.
"""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.modeling_outputs import SequenceClassifierOutput

from toxicity.models.cpu_layers import fast_dropout
from toxicity.models.packing import Group, Layout, Packing

# The name of this attention implementation in `config._attn_implementation`.
PACKED_ATTENTION = "packed"


class BertForSequenceClassification(transformers.BertForSequenceClassification):
    """The classifier of `transformers`, extended to packed batches.

    It keeps the name of its parent class because `save_pretrained` writes the class name into the config.
    """

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        packing: Packing | None = None,
        **options: Any,
    ) -> SequenceClassifierOutput:
        """Logits `(rows, labels)` of a packed batch (see `packing.Layout`); without `packing`, the parent's forward."""
        if packing is None:
            return super().forward(input_ids, attention_mask, token_type_ids, position_ids, **options)
        hidden = self.bert(input_ids, position_ids=position_ids, packing=packing).last_hidden_state
        first_tokens = hidden[0].index_select(0, packing.first_tokens)
        pooled = self.dropout(self.bert.pooler(first_tokens[:, None]))
        # In fp32, which costs nothing here: logits with the 8 significant bits of bf16 would give many equal scores.
        with torch.autocast(hidden.device.type, enabled=False):
            return SequenceClassifierOutput(logits=self.classifier(pooled.to(self.classifier.weight.dtype)))


def padding_free_class(config: transformers.PreTrainedConfig) -> type[PreTrainedModel] | None:
    """The class that computes models of this config without padding; None if there is none."""
    return BertForSequenceClassification if config.model_type == "bert" and not config.is_decoder else None


def is_packed(model: nn.Module) -> bool:
    """Whether a model takes packed batches."""
    return isinstance(model, BertForSequenceClassification)


def layout_for(model: nn.Module, device: torch.device, pad_token_id: int) -> Layout:
    """The batch layout for a model on a device."""
    on_gpu = device.type == "cuda"
    return Layout(
        packed=isinstance(model, BertForSequenceClassification),
        pad_token_id=pad_token_id,
        # Tensor cores are faster with multiples of 8; other devices gain nothing from them.
        pad_to_multiple_of=8 if on_gpu else 1,
        one_group=on_gpu,
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

    A function for `transformers.AttentionInterface`: from query, key and value, `(1, heads, tokens, head width)` each,
    to `(1, tokens, heads, head width)`, and None in place of the attention weights.
    """
    if packing is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
    sizes = [group.tokens for group in packing.groups]
    # Contiguous with the heads first, so that each comment's states are matrices in memory, with no copy per group.
    parts = zip(*(states[0].contiguous().split(sizes, dim=1) for states in (query, key, value)), strict=True)
    attended = [_attend(group, *part, dropout, scaling) for group, part in zip(packing.groups, parts, strict=True)]
    return torch.cat(attended, dim=1).transpose(0, 1)[None], None


def _attend(
    group: Group, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, dropout: float, scaling: float
) -> torch.Tensor:
    """Attention of one group of comments, from `(heads, tokens, head width)` to the same shape."""
    heads, tokens, width = query.shape
    if group.places is None and query.device.type == "cpu" and query.dtype == torch.bfloat16:
        # On a CPU, the backward pass of SDPA in bf16 takes ten times as long as two batched matrix products.
        query, key, value = (part.reshape(heads * group.rows, group.longest, width) for part in (query, key, value))
        scores = torch.baddbmm(query.new_empty(1, 1, 1), query, key.transpose(1, 2), beta=0, alpha=scaling)
        return torch.bmm(fast_dropout(scores.softmax(-1), dropout), value).view(heads, tokens, width)
    mask, room = None, group.rows * group.longest
    if group.places is not None:
        query, key, value = (
            states.new_zeros(heads, room, width).index_copy(1, group.places, states) for states in (query, key, value)
        )
        mask = ~group.is_padding[:, None, None, :].expand(-1, 1, group.longest, -1)
    query, key, value = (
        states.view(heads, group.rows, group.longest, width).transpose(0, 1) for states in (query, key, value)
    )
    attended = scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout, scale=scaling)
    attended = attended.transpose(0, 1).reshape(heads, room, width)
    return attended if group.places is None else attended.index_select(1, group.places)


AttentionInterface.register(PACKED_ATTENTION, packed_attention)
# The mask function for padded batches, which `packed_attention` hands to SDPA.
AttentionMaskInterface.register(PACKED_ATTENTION, sdpa_mask)
