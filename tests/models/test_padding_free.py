import copy
import json

import numpy as np
import pytest
import torch
import transformers
from transformers import AutoModelForSequenceClassification, DistilBertConfig, pipeline

from toxicity.models.packing import Layout
from toxicity.models.padding_free import (
    PACKED_ATTENTION,
    BertForSequenceClassification,
    layout_for,
    padding_free_class,
)

LENGTHS = (40, 38, 38, 20, 19, 7, 1)


@pytest.fixture
def comments():
    rng = np.random.default_rng(0)
    return [rng.integers(5, 60, length) for length in LENGTHS]


@pytest.fixture
def models(tiny_config):
    """The model of `transformers` and ours, with the same weights."""
    torch.manual_seed(0)
    # Copies, as a config keeps the name of the attention.
    configs = copy.deepcopy(tiny_config), copy.deepcopy(tiny_config)
    theirs = transformers.BertForSequenceClassification._from_config(configs[0], attn_implementation="sdpa")
    ours = BertForSequenceClassification._from_config(configs[1], attn_implementation=PACKED_ATTENTION)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def run(model, comments, layout, dtype=None):
    model.zero_grad()
    with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
        logits = model(**layout(comments)).logits.float()
    (logits * torch.arange(1, 8)[:, None]).sum().backward()
    gradient = torch.cat([weight.grad.flatten() for weight in model.parameters()])
    return logits.detach(), gradient


@pytest.mark.parametrize("one_group", [False, True])
def test_logits_and_gradients_are_those_of_the_padded_model(models, comments, one_group):
    theirs, ours = models
    expected = run(theirs, comments, Layout(packed=False))
    packed = run(ours, comments, Layout(packed=True, one_group=one_group))
    unpacked = run(ours, comments, Layout(packed=False))
    assert expected[0].std() > 0.01
    for got in (packed, unpacked):
        torch.testing.assert_close(got[0], expected[0], rtol=0, atol=1e-5)
        torch.testing.assert_close(got[1], expected[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("one_group", [False, True])
def test_in_bf16_it_is_as_close_to_fp32_as_the_padded_model(models, comments, one_group):
    theirs, ours = models
    exact = run(theirs, comments, Layout(packed=False))
    padded = run(theirs, comments, Layout(packed=False), torch.bfloat16)
    packed = run(ours, comments, Layout(packed=True, one_group=one_group), torch.bfloat16)
    for index in (0, 1):
        error = (padded[index] - exact[index]).norm()
        assert 0 < (packed[index] - exact[index]).norm() < 2 * error


def test_a_comment_does_not_see_its_neighbours(models, comments):
    _, ours = models
    ours.eval()
    with torch.no_grad():
        together = ours(**Layout(packed=True, one_group=True)(comments)).logits
        alone = torch.cat([ours(**Layout(packed=True)([comment])).logits for comment in comments])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_the_last_layer_computes_in_fp32(models, comments):
    _, ours = models
    ours.eval()
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        logits = ours(**Layout(packed=True)(comments)).logits
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, logits.bfloat16().float())


def test_arguments_by_place_are_those_of_the_parent(models):
    theirs, ours = models
    ids = torch.tensor([[5, 6, 7]])
    by_place = ids, torch.ones_like(ids), torch.tensor([[0, 1, 1]]), torch.tensor([[0, 1, 2]])
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(*by_place).logits, theirs.eval()(*by_place).logits)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_attention_dropout_is_drawn(tiny_config, comments, dtype):
    config = type(tiny_config)(**tiny_config.to_dict() | {"attention_probs_dropout_prob": 0.5})
    model = BertForSequenceClassification._from_config(config, attn_implementation=PACKED_ATTENTION)
    batch = Layout(packed=True)(comments)
    with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None), torch.no_grad():
        model.train()
        assert not torch.equal(model(**batch).logits, model(**batch).logits)
        model.eval()
        assert torch.equal(model(**batch).logits, model(**batch).logits)


def test_what_is_saved_is_a_model_of_transformers(models, tokenizer, tmp_path):
    _, ours = models
    ours.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert PACKED_ATTENTION not in (tmp_path / "config.json").read_text()
    assert type(AutoModelForSequenceClassification.from_pretrained(tmp_path)) is (
        transformers.BertForSequenceClassification
    )
    assert 0 < pipeline("text-classification", str(tmp_path))("thank you")[0]["score"] < 1


def test_which_models_need_no_padding(tiny_config):
    assert padding_free_class(tiny_config) is BertForSequenceClassification
    assert padding_free_class(DistilBertConfig()) is None


def test_the_layout_for_a_device(models):
    theirs, ours = models
    assert layout_for(ours, torch.device("cpu"), 0) == Layout(packed=True)
    assert layout_for(ours, torch.device("cuda"), 0).one_group
    assert layout_for(theirs, torch.device("cuda"), 3) == Layout(False, 3, pad_to_multiple_of=8, one_group=True)
