"""Tiny classifiers of the families of encoders that the package names."""

import copy

import torch
from transformers import (
    AlbertConfig,
    AutoModelForSequenceClassification,
    BertConfig,
    CamembertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    RobertaConfig,
    XLMRobertaConfig,
)

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "num_labels": 1}
FAMILIES = {
    "BERT": BertConfig(**SMALL),
    "RoBERTa": RobertaConfig(**SMALL),
    "XLM-RoBERTa": XLMRobertaConfig(**SMALL),
    "CamemBERT": CamembertConfig(**SMALL),
    "DistilBERT": DistilBertConfig(dim=32, hidden_dim=64, n_layers=2, n_heads=2, num_labels=1),
    "ELECTRA": ElectraConfig(**SMALL, embedding_size=16),
    "ModernBERT": ModernBertConfig(**SMALL, local_attention=16),
    "DeBERTa-v3": DebertaV2Config(
        **SMALL,
        relative_attention=True,
        position_buckets=8,
        pos_att_type=["p2c", "c2p"],
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        position_biased_input=False,
        pooler_hidden_size=32,
    ),
    "ALBERT": AlbertConfig(**SMALL, embedding_size=16),
}


def classifier_of(name):
    """An untrained classifier for one label, of 40 token ids, the first of them for padding."""
    config = copy.deepcopy(FAMILIES[name])
    config.vocab_size, config.pad_token_id, config.max_position_embeddings = 40, 0, 64
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_config(config)
