import copy
import json

import pytest
import torch
import transformers
from packed_models import ALL_KINDS, CPU, GROUPINGS, make_tokens, packed_bert, packed_layout, pair_of, run
from transformers import AutoModelForSequenceClassification, BertConfig, DebertaV2Config, pipeline
from varlen_kernels import kernels_on_cpu

from toxicity.models import varlen_attention
from toxicity.models.cpu_layers import use_faster_layers
from toxicity.models.output_layer import OutputLayer
from toxicity.models.packing import Layout
from toxicity.models.padding_free import (
    PACKED_ATTENTION,
    can_be_packed,
    is_packed,
    layout_for,
)

PADDED = Layout(packed=False, pad_token_id=1)


@pytest.fixture(autouse=True)
def kernels(monkeypatch):
    """Torch's kernels of variable length, by their stand-ins; yields the names of those that are called."""
    monkeypatch.setattr(varlen_attention, "_kernels", {})
    with kernels_on_cpu() as calls:
        yield calls


@pytest.mark.parametrize(("grouping", "multiple"), GROUPINGS)
@pytest.mark.parametrize("kind", ALL_KINDS)
def test_logits_and_gradients_are_those_of_the_padded_model(kind, grouping, multiple, kernels):
    theirs, ours = pair_of(kind)
    exact = run(copy.deepcopy(theirs).double(), PADDED(make_tokens()))
    packed = run(ours, packed_layout(ours, grouping, multiple)(make_tokens()))
    unpacked = run(ours, PADDED(make_tokens()))
    assert exact[0].std() > 0.01
    for got in (packed, unpacked):
        torch.testing.assert_close(got[0].double(), exact[0], rtol=0, atol=1e-5)
        torch.testing.assert_close(got[1].double(), exact[1], rtol=0, atol=1e-5)
    assert ("_efficient_attention_backward" in kernels) == (grouping == "none")


@pytest.mark.parametrize(("grouping", "multiple"), GROUPINGS)
@pytest.mark.parametrize("kind", ALL_KINDS)
def test_in_bf16_it_is_as_close_to_fp32_as_the_padded_model(kind, grouping, multiple, kernels):
    theirs, ours = pair_of(kind)
    for model in (theirs, ours):
        if kind == "distilbert":
            # Its head has a ReLU, and where bf16 takes a number past 0, the gradient jumps: so all are well above it.
            torch.nn.init.constant_(model.pre_classifier.bias, 6.0)
    exact = run(theirs, PADDED(make_tokens()))
    padded = run(theirs, PADDED(make_tokens()), torch.bfloat16)
    packed = run(ours, packed_layout(ours, grouping, multiple, torch.bfloat16)(make_tokens()), torch.bfloat16)
    for index in (0, 1):
        error = (padded[index] - exact[index]).norm()
        assert 0 < (packed[index] - exact[index]).norm() < 2 * error
    assert ("_flash_attention_backward" in kernels) == (grouping == "none")


@pytest.mark.parametrize(("grouping", "multiple"), GROUPINGS)
@pytest.mark.parametrize("kind", ALL_KINDS)
def test_a_comment_does_not_see_its_neighbours(kind, grouping, multiple):
    _, ours = pair_of(kind)
    layout = packed_layout(ours.eval(), grouping, multiple)
    with torch.no_grad():
        together = ours(**layout(make_tokens())).logits
        alone = torch.cat([ours(**layout([comment])).logits for comment in make_tokens()])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize(("grouping", "multiple"), GROUPINGS)
def test_attention_dropout_is_drawn(tiny_config, grouping, multiple, dtype):
    model = packed_bert(type(tiny_config)(**tiny_config.to_dict() | {"attention_probs_dropout_prob": 0.5}))
    batch = packed_layout(model, grouping, multiple)(make_tokens())
    with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None), torch.no_grad():
        model.train()
        assert not torch.equal(model(**batch).logits, model(**batch).logits)
        model.eval()
        assert torch.equal(model(**batch).logits, model(**batch).logits)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("kind", ["bert", "distilbert", "roberta"])
def test_the_last_layer_computes_in_fp32(kind, packed):
    _, ours = pair_of(kind)
    use_faster_layers(ours.eval())
    layout = packed_layout(ours, "equal") if packed else PADDED
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        logits = ours(**layout(make_tokens())).logits
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, logits.bfloat16().float())
    assert [type(layer) for layer in ours.modules() if isinstance(layer, OutputLayer)] == [OutputLayer]


def test_arguments_by_place_and_results_as_a_tuple_are_those_of_transformers():
    theirs, ours = pair_of("bert")
    ids = torch.tensor([[5, 6, 7]])
    by_place = ids, torch.ones_like(ids), torch.tensor([[0, 1, 1]]), torch.tensor([[0, 1, 2]])
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(*by_place).logits, theirs.eval()(*by_place).logits)
        batch = packed_layout(ours, "equal")(make_tokens())
        assert torch.equal(ours(**batch, return_dict=False)[0], ours(**batch).logits)


def test_a_copy_is_packed_too():
    _, ours = pair_of("roberta")
    twin = copy.deepcopy(ours)
    batch = packed_layout(ours, "equal")(make_tokens())
    with torch.no_grad():
        expected = ours.eval()(**batch).logits
        for weight in ours.parameters():
            weight.zero_()
        assert torch.equal(twin.eval()(**batch).logits, expected)


@pytest.mark.parametrize("grouping", ["equal", "similar", "none"])
def test_gradient_checkpointing_changes_nothing(grouping):
    _, ours = pair_of("bert", dropout=0.1)
    batch = packed_layout(ours.train(), grouping)(make_tokens())
    torch.manual_seed(0)
    expected = run(ours, batch)
    ours.gradient_checkpointing_enable({"use_reentrant": False})
    torch.manual_seed(0)
    torch.testing.assert_close(run(ours, batch), expected)


def test_what_is_saved_is_a_model_of_transformers(tiny_config, tokenizer, tmp_path):
    ours = packed_bert(tiny_config)
    ours.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert PACKED_ATTENTION not in (tmp_path / "config.json").read_text()
    assert type(AutoModelForSequenceClassification.from_pretrained(tmp_path)) is (
        transformers.BertForSequenceClassification
    )
    expected = pipeline("text-classification", str(tmp_path))("thank you")[0]["score"]
    assert 0 < expected < 1
    packed = pipeline("text-classification", ours.eval(), tokenizer=tokenizer)("thank you")[0]["score"]
    assert packed == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("config", "packed"),
    [(BertConfig(), True), (BertConfig(is_decoder=True), False), (DebertaV2Config(), False)],
    ids=["encoder", "decoder", "another kind"],
)
def test_which_models_need_no_padding(config, packed):
    assert can_be_packed(config) == packed


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_the_layout_for_a_device(device, tiny_model, tiny_config):
    ours = packed_bert(tiny_config)
    assert (is_packed(ours), is_packed(tiny_model), is_packed(torch.nn.Linear(1, 1))) == (True, False, False)
    assert layout_for(ours, CPU, 0) == Layout(packed=True)
    multiple = 8 if device == "cuda" else 1
    assert layout_for(tiny_model, torch.device(device), 3) == Layout(False, 3, multiple)
    # No such device is here, so there is no kernel for it.
    fallback = layout_for(ours, torch.device(device), 3, torch.float16)
    assert fallback == Layout(True, 3, multiple, "similar", dtype=torch.float16)


def test_the_layout_where_a_kernel_passes_its_test(tiny_config, monkeypatch):
    monkeypatch.setattr(varlen_attention, "fault_of", lambda *arguments: None)
    assert layout_for(packed_bert(tiny_config), torch.device("cuda"), 3) == Layout(True, 3, 8, "none")


@pytest.mark.parametrize(("kind", "first_position"), [("bert", 0), ("roberta", 2), ("distilbert", 0)])
def test_positions_of_packed_comments_begin_where_the_model_has_them(kind, first_position):
    assert layout_for(pair_of(kind)[1], CPU, 1).first_position == first_position


@pytest.mark.parametrize(
    ("kind", "option"), [("bert", "attention_probs_dropout_prob"), ("distilbert", "attention_dropout")]
)
def test_a_kernel_that_drops_wrongly_serves_all_but_training_with_dropout(kind, option, monkeypatch):
    model = pair_of(kind)[1]
    monkeypatch.setattr(varlen_attention, "fault_of", lambda *arguments: "wrong" if arguments[-1] else None)

    def grouping(training, dropout):
        setattr(model.config, option, dropout)
        return layout_for(model, torch.device("cuda"), 3, training=training).grouping

    assert [grouping(True, 0.1), grouping(True, 0.0), grouping(False, 0.1)] == ["similar", "none", "none"]
