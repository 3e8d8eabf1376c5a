"""Weights that are converted once per layer: the numbers of autocast, with fewer kernels."""

import copy

import pytest
import torch
from families import FAMILIES, model_of
from launches import count_launches
from processes import run_ranks
from training_steps import gradients_with_half_weights, losses_and_gradients
from transformers import AutoModelForSequenceClassification

from toxicity.models.half_weights import cast_once, encoder_layers


def batches(count=1):
    generator = torch.Generator().manual_seed(1)
    return [{"input_ids": torch.randint(3, 99, (3, 12), generator=generator)} for _ in range(count)]


def assert_same(one, other):
    (loss, gradients), (other_loss, other_gradients) = one, other
    assert torch.equal(loss, other_loss)
    assert gradients.keys() == other_gradients.keys()
    for name, gradient in gradients.items():
        if gradient is None:
            assert other_gradients[name] is None, name
        else:
            assert gradient.dtype == other_gradients[name].dtype == torch.float32
            assert torch.equal(gradient, other_gradients[name]), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_losses_and_gradients_are_those_of_autocast_to_the_bit(family, dtype):
    plain = model_of(family)
    cast = copy.deepcopy(plain)
    cast_once(cast, dtype)
    assert len(encoder_layers(cast)) == 2
    parts = batches(2)
    assert_same(losses_and_gradients(plain, parts, dtype), losses_and_gradients(cast, parts, dtype))


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_computes_the_same(reentrant):
    plain = model_of("bert")
    plain.gradient_checkpointing_enable({"use_reentrant": reentrant})
    cast = copy.deepcopy(plain)
    cast_once(cast, torch.bfloat16)
    assert_same(losses_and_gradients(plain, batches(2)), losses_and_gradients(cast, batches(2)))


def test_frozen_and_unused_weights_get_no_gradient():
    plain = model_of("bert")
    for layer in plain.bert.encoder.layer:
        layer.attention.self.query.requires_grad_(False)
        layer.unused = torch.nn.Linear(3, 3)
    cast = copy.deepcopy(plain)
    cast_once(cast, torch.bfloat16)
    one, other = losses_and_gradients(plain, batches()), losses_and_gradients(cast, batches())
    assert_same(one, other)
    assert other[1]["bert.encoder.layer.0.unused.weight"] is None
    assert other[1]["bert.encoder.layer.0.attention.self.query.weight"] is None
    assert other[1]["bert.encoder.layer.0.attention.self.query.bias"] is None


def test_a_copy_computes_with_its_own_weights():
    model = model_of("bert")
    cast_once(model, torch.bfloat16)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for weight in twin.parameters():
            weight.mul_(1.5)
    own = model_of("bert")
    own.load_state_dict(twin.state_dict())
    assert_same(losses_and_gradients(own, batches()), losses_and_gradients(twin, batches()))
    assert_same(losses_and_gradients(model_of("bert"), batches()), losses_and_gradients(model, batches()))


def test_weights_are_seen_and_saved_as_they_are(tmp_path):
    model = model_of("bert")
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    cast_once(model, torch.bfloat16)
    seen = []
    model.bert.encoder.layer[0].intermediate.register_forward_pre_hook(
        lambda *_: seen.extend([dict(model.named_parameters()), model.state_dict()])
    )
    losses_and_gradients(model, batches())
    for weights in seen:
        assert weights.keys() == before.keys()
        assert all(torch.equal(weight, before[name]) for name, weight in weights.items())
    model.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert all(torch.equal(weight, before[name]) for name, weight in again.state_dict().items())


@pytest.mark.parametrize("autocast", [{"enabled": False}, {"dtype": torch.float16}], ids=["none", "another dtype"])
def test_without_autocast_to_that_dtype_nothing_is_converted(autocast):
    plain = model_of("bert")
    cast = copy.deepcopy(plain)
    cast_once(cast, torch.bfloat16)
    results = []
    for model in (plain, cast):
        torch.manual_seed(0)
        with torch.autocast("cpu", **autocast), count_launches() as launches:
            results.append((model(**batches()[0]).logits, launches))
    assert torch.equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]


def test_after_an_error_the_weights_are_back():
    model = model_of("bert")
    cast_once(model, torch.bfloat16)

    def fail(*_):
        raise torch.OutOfMemoryError("too much")

    handle = model.bert.encoder.layer[1].output.register_forward_pre_hook(fail)
    with pytest.raises(torch.OutOfMemoryError):
        losses_and_gradients(model, batches())
    handle.remove()
    assert model.bert.encoder.layer[1].attention.self.query.weight.dtype == torch.float32
    assert_same(losses_and_gradients(model_of("bert"), batches()), losses_and_gradients(model, batches()))


def test_a_layer_converts_all_its_weights_at_once():
    model = model_of("bert")
    cast_once(model, torch.bfloat16)
    with count_launches() as launches:
        losses_and_gradients(model, batches())
    assert launches["aten._foreach_copy_"] == 2 * 2


def test_processes_exchange_the_same_gradients(tmp_path):
    run_ranks(2, gradients_with_half_weights, tmp_path)
    for rank in range(2):
        assert_same(*torch.load(tmp_path / f"{rank}.pt"))
