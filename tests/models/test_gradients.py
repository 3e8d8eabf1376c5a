import pytest
import torch
from families import ALL_FAMILIES, model_of
from torch import nn

from toxicity.models.gradients import weights_without_gradient


@pytest.mark.parametrize("name", ALL_FAMILIES)
def test_classifiers_use_all_their_weights(name):
    model = model_of(name)
    state = torch.get_rng_state()
    assert weights_without_gradient(model, [2, 7, 8, 9, 3]) == []
    assert torch.equal(state, torch.get_rng_state())
    assert model.training
    assert all(weight.grad is None for weight in model.parameters())


def test_weights_without_a_gradient_are_named(tiny_model):
    tiny_model.bert.unused = nn.Linear(2, 2)
    tiny_model.bert.frozen = nn.Linear(2, 2).requires_grad_(False)
    assert weights_without_gradient(tiny_model, [2, 3]) == ["bert.unused.weight", "bert.unused.bias"]
