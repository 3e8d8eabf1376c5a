"""Tiny classifiers of the kinds of encoder that this package names."""

import torch
from transformers import CONFIG_MAPPING, AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel

SIZES = {"vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
# What a kind calls otherwise, or needs beside these.
OPTIONS = {
    "electra": {"embedding_size": 32},
    "distilbert": {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 2},
    "modernbert": {"pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2},
    "deberta-v2": {
        **{"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "share_att_key": True},
        **{"position_buckets": 8, "norm_rel_ebd": "layer_norm"},
    },
    "albert": {"embedding_size": 32},
    "rembert": {"input_embedding_size": 32, "output_embedding_size": 32},
}
FAMILIES = ("bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert", "modernbert", "deberta-v2")
# ALBERT has a single layer, which it calls twice.
ALL_FAMILIES = (*FAMILIES, "albert")


def config_of(family: str, **options) -> PreTrainedConfig:
    """The config of a classifier of two layers and two labels."""
    return CONFIG_MAPPING[family](**{**SIZES, "num_labels": 2, **OPTIONS.get(family, {}), **options})


def model_of(family: str, attention: str | None = "eager", **options) -> PreTrainedModel:
    """A classifier with that config and random weights, in training mode."""
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config_of(family, **options), attn_implementation=attention)
    return model.train()
