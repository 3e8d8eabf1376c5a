import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
)

from toxicity.models.flops import BERT_BASE, Encoder, encoder_of


def test_bert_base_is_what_the_model_says():
    with torch.device("meta"):
        model = BertForSequenceClassification(BertConfig())
    assert encoder_of(model) == BERT_BASE == Encoder(84_934_656, 12, 768)


def test_other_names_for_the_same_things():
    model = DistilBertForSequenceClassification(DistilBertConfig(dim=32, n_layers=2, n_heads=2, hidden_dim=64))
    assert encoder_of(model) == Encoder(weights=2 * (4 * 32 * 32 + 2 * 32 * 64), layers=2, width=32)


def test_against_a_count_by_hand(tiny_model):
    # A matrix product of (m, k) and (k, n) is 2 m k n; scores and their use are two products over pairs of tokens.
    tokens, width, feed_forward, layers = 7, 32, 64, 2
    projections = 4 * 2 * tokens * width * width + 2 * 2 * tokens * width * feed_forward
    attention = 2 * 2 * tokens * tokens * width
    assert encoder_of(tiny_model).forward_flops(rows=1, tokens=tokens) == layers * (projections + attention)


def test_torch_counts_the_same(tiny_model):
    tiny_model.config._attn_implementation = "eager"
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        tiny_model(input_ids=torch.ones(3, 20, dtype=torch.long))
    head = 3 * 2 * (32 * 32 + 32)  # pooler and classifier
    assert counter.get_total_flops() == encoder_of(tiny_model).forward_flops(rows=3, tokens=60) + head


def test_training_is_three_forward_passes():
    assert BERT_BASE.training_flops(10, 700) == 3 * BERT_BASE.forward_flops(10, 700)
    assert BERT_BASE.forward_flops(0, 0) == 0


def test_the_published_efficiencies():
    # Padding counted as work, the published V100 got 19.5 % of its tensor peak, the P100 60 % of its fp32 peak.
    padded = BERT_BASE.training_flops(1_000_000, 220_000_000)
    assert padded / 5381 / 112e12 == pytest.approx(0.195, abs=0.0005)
    assert padded / 20970 / 9.3e12 == pytest.approx(0.60, abs=0.005)
