import pytest
import torch
from transformers import (
    AlbertConfig,
    AutoModelForSequenceClassification,
    DebertaV2Config,
    DistilBertConfig,
    GPT2Config,
    ModernBertConfig,
    T5Config,
)

from toxicity.core.errors import RequestError
from toxicity.training.optimizer import decay_layer_rates, depths

SMALL = {"vocab_size": 50, "num_attention_heads": 2, "intermediate_size": 16, "hidden_size": 8}


def optimizer_of(model):
    decayed = [weight for weight in model.parameters() if weight.ndim > 1]
    rest = [weight for weight in model.parameters() if weight.ndim == 1]
    return torch.optim.AdamW([{"params": decayed, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0}], lr=1.0)


def test_rates_fall_from_the_head_to_the_embeddings(tiny_model):
    optimizer = optimizer_of(tiny_model)
    decay_layer_rates(optimizer, tiny_model, 0.5)
    rates = {weight: group["lr"] for group in optimizer.param_groups for weight in group["params"]}
    expected = {
        "classifier.weight": 1,
        "bert.pooler.dense.bias": 1,
        "bert.encoder.layer.1.attention.self.query.weight": 0.5,
        "bert.encoder.layer.0.output.LayerNorm.bias": 0.25,
        "bert.embeddings.word_embeddings.weight": 0.125,
        "bert.embeddings.LayerNorm.weight": 0.125,
    }
    parameters = dict(tiny_model.named_parameters())
    assert {name: rates[parameters[name]] for name in expected} == expected
    assert optimizer.param_groups[0]["lr"] == 1  # the one that is logged
    assert len(rates) == len(parameters)
    assert {group["weight_decay"] for group in optimizer.param_groups for w in group["params"] if w.ndim == 1} == {0}


@pytest.mark.parametrize(
    ("config", "layer", "shared"),
    [
        (DistilBertConfig(vocab_size=50, dim=8, n_layers=3, n_heads=2, hidden_dim=16), "layer.0.", "word_embeddings"),
        (GPT2Config(vocab_size=50, n_embd=8, n_layer=3, n_head=2), "h.0.", "wpe"),
        (
            DebertaV2Config(**SMALL, num_hidden_layers=3, relative_attention=True, norm_rel_ebd="layer_norm"),
            "layer.0.",
            "encoder.LayerNorm",
        ),
        (ModernBertConfig(**SMALL, num_hidden_layers=3, pad_token_id=0), "layers.0.", "tok_embeddings"),
    ],
)
def test_layers_of_other_models_are_known(config, layer, shared):
    model = AutoModelForSequenceClassification.from_config(config)
    of_name = depths(model)
    assert {depth for name, depth in of_name.items() if layer in name} == {3}
    assert {depth for name, depth in of_name.items() if shared in name} == {4}
    assert {depth for name, depth in of_name.items() if name.startswith(("classifier", "score", "head"))} == {0}
    assert {depth for name, depth in of_name.items() if "final_norm" in name or "ln_f" in name} <= {0}


@pytest.mark.parametrize(
    "config",
    [
        AlbertConfig(**SMALL, embedding_size=8),
        T5Config(vocab_size=50, d_model=8, d_kv=4, d_ff=16, num_layers=2, num_heads=2),
    ],
    ids=["one layer again and again", "two stacks"],
)
def test_models_without_a_stack_of_layers_are_refused(config):
    model = AutoModelForSequenceClassification.from_config(config)
    with pytest.raises(RequestError, match="numbered layers"):
        decay_layer_rates(optimizer_of(model), model, 0.9)
