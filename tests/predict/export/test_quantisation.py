"""Layers stay in floating point where int8 would cost the scores too much, and only there."""

import numpy as np
import pytest
from scipy.special import expit

openvino = pytest.importorskip("openvino")
pytest.importorskip("nncf")
from openvino import opset13  # noqa: E402

from toxicity.predict.export import quantisation  # noqa: E402

CHANNELS, OUTLIER = 32, 5


def three_layers(outlier: float) -> openvino.Model:
    """Three linear layers; the second one gets a channel that is so many times as large, and hardly reads it."""
    random = np.random.default_rng(0)
    first, second = (random.normal(size=(CHANNELS, CHANNELS)).astype(np.float32) / CHANNELS**0.5 for _ in range(2))
    first[OUTLIER] *= outlier
    second[:, OUTLIER] /= outlier
    last = random.normal(size=(1, CHANNELS)).astype(np.float32) / 10
    x = opset13.parameter([-1, CHANNELS], np.float32, name="x")
    hidden = opset13.matmul(x, opset13.constant(first), False, True, name="first")
    hidden = opset13.matmul(opset13.relu(hidden), opset13.constant(second), False, True, name="second")
    logits = opset13.matmul(opset13.relu(hidden), opset13.constant(last), False, True, name="last")
    return openvino.Model([logits], [x], "three layers")


@pytest.mark.parametrize("score", [lambda logits: expit(logits[:, 0]), expit], ids=["one label", "several"])
@pytest.mark.parametrize(("outlier", "floating"), [(1, []), (100, ["second"])])
def test_what_costs_accuracy_stays_in_floating_point(outlier, floating, score):
    random = np.random.default_rng(1)
    rows = [{"x": random.normal(size=(8, CHANNELS)).astype(np.float32)} for _ in range(24)]
    int8 = quantisation.quantised(three_layers(outlier), rows[:12], rows[12:], score)
    assert quantisation.floating_layers(int8) == floating


def test_no_more_layers_stay_than_int8_is_faster_with(monkeypatch):
    monkeypatch.setattr(quantisation, "LOGIT_DIFFERENCE", 0.0)
    random = np.random.default_rng(1)
    rows = [{"x": random.normal(size=(8, CHANNELS)).astype(np.float32)} for _ in range(24)]
    int8 = quantisation.quantised(three_layers(1), rows[:12], rows[12:], lambda logits: expit(logits[:, 0]))
    assert len(quantisation.floating_layers(int8)) == 1
