"""Logits are fp32 whatever computed what comes before them, and whatever type their weights were gathered in."""

import pytest
import torch
from torch.nn.functional import linear

from toxicity.models.output_layer import OutputLayer


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("weights", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("autocast", [True, False])
def test_logits_are_no_coarser_than_fp32(weights, bias, autocast):
    torch.manual_seed(0)
    layer = OutputLayer(64, 1, bias=bias).to(weights)
    states = torch.randn(100, 64, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        logits = layer(states)
    logits.sum().backward()
    assert logits.dtype == (torch.float64 if weights == torch.float64 else torch.float32)
    exact = linear(states.double(), layer.weight.double(), layer.bias.double() if bias else None)
    torch.testing.assert_close(logits.double(), exact, rtol=0, atol=1e-5)
    assert not torch.equal(logits, logits.bfloat16().to(logits.dtype))
    assert layer.weight.grad.dtype == weights
