"""BERT on the tokens of many comments laid one after another: nothing is computed for padding but in attention.

Linear layers, normalisation and dropout look at one token at a time, so they do not care where a comment ends.
Attention does: it runs over groups of comments of like length. The weights, their names and the results are those of
`transformers`; so are its modules, which FSDP, hooks and gradient checkpointing go by.
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

from toxicity.models.cpu_layers import drop
from toxicity.models.packing import Group, Layout, Packing

PACKED_ATTENTION = "packed"


class BertForSequenceClassification(transformers.BertForSequenceClassification):
    """The classifier of `transformers`, which also takes packed batches.

    It has the name of its parent because a saved model's config names its class.
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
        """Logits `(rows, labels)` of a packed batch (`layout.Layout`); without `packing` the parent's forward."""
        if packing is None:
            return super().forward(input_ids, attention_mask, token_type_ids, position_ids, **options)
        hidden = self.bert(input_ids, position_ids=position_ids, packing=packing).last_hidden_state
        first_tokens = hidden[0].index_select(0, packing.first_tokens)
        pooled = self.dropout(self.bert.pooler(first_tokens[:, None]))
        # A product so small costs nothing, and logits of bf16's eight bits would make many scores tie.
        with torch.autocast(hidden.device.type, enabled=False):
            return SequenceClassifierOutput(logits=self.classifier(pooled.to(self.classifier.weight.dtype)))


def takes_packed_batches(model: nn.Module) -> bool:
    """Whether the model can be called with a packed batch."""
    return isinstance(model, BertForSequenceClassification)


def unpadded_class(config: transformers.PreTrainedConfig) -> type[PreTrainedModel] | None:
    """The class that computes a checkpoint of this config without padding, None where there is none."""
    return BertForSequenceClassification if config.model_type == "bert" and not config.is_decoder else None


def layout_for(model: nn.Module, device: torch.device, pad_token_id: int) -> Layout:
    """How the model takes its batches on this device."""
    on_gpu = device.type == "cuda"
    return Layout(
        packed=takes_packed_batches(model),
        pad_token_id=pad_token_id,
        # Tensor cores want multiples of 8; elsewhere that is padding for nothing.
        pad_to_multiple_of=8 if on_gpu else 1,
        one_group=on_gpu,
    )


def packed_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    packing: Packing | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention within each comment of a packed batch; SDPA where the batch is not packed.

    Args:
        module: the attention layer.
        query: `(1, heads, tokens, width of a head)`; `key` and `value` alike.
        attention_mask: for batches that are not packed.
        dropout: share of the attention weights that are dropped.
        scaling: of the scores.
        packing: of the batch.

    Returns:
        `(1, tokens, heads, width of a head)`, and None for the weights.
    """
    if packing is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
    sizes = [group.tokens for group in packing.groups]
    # By heads first, so that the states of a comment are matrices as they lie.
    parts = zip(*(states[0].contiguous().split(sizes, dim=1) for states in (query, key, value)), strict=True)
    attended = [_attend(group, *part, dropout, scaling) for group, part in zip(packing.groups, parts, strict=True)]
    return torch.cat(attended, dim=1).transpose(0, 1)[None], None


def _attend(
    group: Group, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, dropout: float, scaling: float | None
) -> torch.Tensor:
    """Attention of a group, from `(heads, tokens, width)` to the same shape."""
    heads, tokens, width = query.shape
    if group.places is None and query.device.type == "cpu" and query.dtype == torch.bfloat16:
        # SDPA's backward in bf16 takes ten times as long on a CPU as the same products one by one.
        states = (part.reshape(heads * group.rows, group.longest, width) for part in (query, key, value))
        return _plain_attention(*states, dropout, scaling).view(heads, tokens, width)
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


def _plain_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, dropout: float, scaling: float | None
) -> torch.Tensor:
    """Attention of matrices `(matrices, tokens, width)`, none of them padded."""
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = torch.baddbmm(query.new_empty(1, 1, 1), query, key.transpose(1, 2), beta=0, alpha=scale)
    return torch.bmm(drop(scores.softmax(-1), dropout), value)


AttentionInterface.register(PACKED_ATTENTION, packed_attention)
# For batches that are not packed, which go to SDPA.
AttentionMaskInterface.register(PACKED_ATTENTION, sdpa_mask)
