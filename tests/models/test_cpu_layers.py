import pytest
import torch
from torch import nn

from toxicity.models.cpu_layers import Dropout, Linear, use_faster_layers


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_dropout_drops_its_share_and_keeps_the_mean(dtype, share):
    torch.manual_seed(0)
    states = torch.ones(401, 503, dtype=dtype)
    dropped = Dropout(share)(states)
    assert dropped.dtype == dtype
    assert (dropped == 0).float().mean().item() == pytest.approx(share, abs=0.005)
    assert dropped[dropped != 0].unique().tolist() == pytest.approx([1 / (1 - share)], rel=0.005)
    neighbours = (dropped[:, 1:] == 0) & (dropped[:, :-1] == 0)
    assert neighbours.float().mean().item() == pytest.approx(share**2, abs=0.005), "drawn one by one"


def test_its_gradient_goes_through_what_was_kept():
    states = torch.randn(5, 7, requires_grad=True)
    dropped = Dropout(0.3)(states)
    dropped.sum().backward()
    torch.testing.assert_close(states.grad * states.detach(), dropped.detach())


def test_it_is_drawn_from_the_seed():
    layer, states = Dropout(0.5), torch.ones(99)
    torch.manual_seed(1)
    first, second = layer(states), layer(states)
    torch.manual_seed(1)
    assert torch.equal(first, layer(states))
    assert not torch.equal(first, second)


def test_it_does_nothing_in_evaluation_and_all_at_one():
    states = torch.randn(9)
    assert torch.equal(Dropout(0.5).eval()(states), states)
    assert torch.equal(Dropout(0.0)(states), states)
    assert not Dropout(1.0)(states).any()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("autocast", [True, False])
def test_linear_is_linear(bias, autocast):
    torch.manual_seed(0)
    plain, fast = nn.Linear(16, 8, bias=bias), Linear(16, 8, bias=bias)
    fast.load_state_dict(plain.state_dict())
    states = torch.randn(4, 16)
    results = []
    for layer in (plain, fast):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            product = layer(states)
        product.float().square().sum().backward()
        results.append([product, *(weight.grad for weight in layer.parameters())])
    for one, other in zip(*results, strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one, other, rtol=0.02 if autocast else 1e-5, atol=0.05 if autocast else 1e-5)


def test_a_model_keeps_its_parameters(tiny_model):
    before = dict(tiny_model.eval().named_parameters())
    use_faster_layers(tiny_model)
    assert not any(module.training for module in tiny_model.modules())
    assert list(tiny_model.state_dict()) == list(before)
    assert all(weight is before[name] for name, weight in tiny_model.named_parameters())
    kinds = {type(module) for module in tiny_model.modules()}
    assert {Dropout, Linear} <= kinds
    assert not {nn.Dropout, nn.Linear} & kinds
