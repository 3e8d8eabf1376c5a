import copy

import pytest
import torch
from torch import nn
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

from toxicity.models.gradients import weights_without_gradient

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


@pytest.mark.parametrize("name", FAMILIES)
def test_classifiers_use_all_their_weights(name):
    config = copy.deepcopy(FAMILIES[name])
    config.vocab_size, config.pad_token_id, config.max_position_embeddings = 40, 0, 64
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config)
    state = torch.get_rng_state()
    assert weights_without_gradient(model, [2, 7, 8, 9, 3]) == []
    assert torch.equal(state, torch.get_rng_state())
    assert model.training
    assert all(weight.grad is None for weight in model.parameters())


def test_weights_without_a_gradient_are_named(tiny_model):
    tiny_model.bert.unused = nn.Linear(2, 2)
    tiny_model.bert.frozen = nn.Linear(2, 2).requires_grad_(False)
    assert weights_without_gradient(tiny_model, [2, 3]) == ["bert.unused.weight", "bert.unused.bias"]
