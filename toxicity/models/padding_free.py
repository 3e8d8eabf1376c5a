"""BERT and its siblings on packed batches: the tokens of many comments concatenated, so that no padding is computed.

Linear layers, normalisation and dropout treat every token on its own, so they work on a packed batch as it is.
Attention must stay within each comment: it takes comments of variable length, or is computed for groups of comments of
similar length. Classes, weights and results are those of `transformers`, so FSDP, hooks and gradient checkpointing work
as usual: all that is added is the attention and a hook that gives the head the first token of each comment.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from toxicity.models.attention import PACKED_ATTENTION
from toxicity.models.first_tokens import compute_first_tokens_only, first_tokens
from toxicity.models.output_layer import compute_logits_in_fp32
from toxicity.models.packing import Layout, first_position
from toxicity.models.varlen_attention import kernel_for

# Model types whose embeddings, encoder and head take packed batches: all that pool the first token, and hand arguments
# of their forward on to attention.
PACKED_TYPES = (
    "albert",
    "bert",
    "camembert",
    "data2vec-text",
    "distilbert",
    "electra",
    "ernie",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
)
# The probability of dropout in attention, as configs call it.
ATTENTION_DROPOUT = ("attention_probs_dropout_prob", "attention_dropout")


def can_be_packed(config: PreTrainedConfig) -> bool:
    """Whether a model with this config computes packed batches after `make_padding_free`."""
    return config.model_type in PACKED_TYPES and not getattr(config, "is_decoder", False)


def make_padding_free(model: PreTrainedModel) -> None:
    """Extend a classifier of `transformers`, whose config `can_be_packed`, to packed batches (see `packing.Layout`).

    Without `packing` among its arguments the model computes what it did, but its logits in fp32 under autocast too.
    """
    model.set_attn_implementation(PACKED_ATTENTION)
    base = model.base_model
    encoder = base.transformer if hasattr(base, "transformer") else base.encoder
    encoder.register_forward_hook(_take_first_tokens, with_kwargs=True)
    compute_first_tokens_only(model)
    compute_logits_in_fp32(model)


def is_packed(model: nn.Module) -> bool:
    """Whether a model takes packed batches."""
    return getattr(getattr(model, "config", None), "_attn_implementation", None) == PACKED_ATTENTION


def layout_for(
    model: nn.Module,
    device: torch.device,
    pad_token_id: int,
    dtype: torch.dtype = torch.float32,
    training: bool = False,
) -> Layout:
    """The batch layout for a model on a device; on an accelerator, attention tests itself once and logs its choice.

    Args:
        dtype: that attention computes in, under autocast that of autocast.
        training: whether the model trains on the batches, with the dropout of its config.
    """
    packed, grouping = is_packed(model), "equal"
    if packed and device.type != "cpu":
        head_width = model.config.hidden_size // model.config.num_attention_heads
        dropout = training and any(getattr(model.config, name, 0) for name in ATTENTION_DROPOUT)
        grouping = "none" if kernel_for(device, dtype, head_width, dropout) else "similar"
    return Layout(
        packed=packed,
        pad_token_id=pad_token_id,
        # Tensor cores are faster with multiples of 8; other devices gain nothing from them.
        pad_to_multiple_of=8 if device.type == "cuda" else 1,
        grouping=grouping,
        first_position=first_position(model.config) if packed else 0,
        dtype=dtype,
    )


def _take_first_tokens(
    encoder: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any], output: BaseModelOutput
) -> BaseModelOutput:
    """A forward hook of an encoder: of a packed batch, only each comment's first token goes on, `(rows, 1, width)`."""
    packing = options.get("packing")
    if packing is not None:
        output.last_hidden_state = first_tokens(output.last_hidden_state, packing)[:, None]
    return output
