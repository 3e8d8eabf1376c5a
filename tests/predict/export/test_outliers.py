"""Single channels that are far larger than all others do not cost the others their precision."""

import numpy as np
import pytest

openvino = pytest.importorskip("openvino")
from openvino import opset13  # noqa: E402

from toxicity.predict.export import outliers  # noqa: E402

RANDOM = np.random.default_rng(0)


def two_layers(outputs=16, inputs=32):
    """A model of two linear layers with the same input, which is called `x`."""
    x = opset13.parameter([-1, -1, inputs], np.float32, name="x")
    weights = [RANDOM.normal(size=(outputs, inputs)).astype(np.float32) for _ in range(2)]
    products = [opset13.matmul(x, opset13.constant(weight), False, True) for weight in weights]
    return openvino.Model([opset13.add(*products)], [x], "two layers")


def comments(outlier=1.0, count=3, inputs=32):
    made = [RANDOM.normal(size=(1, 40, inputs)).astype(np.float32) for _ in range(count)]
    for values in made:
        values[:, 0, 5] *= outlier
    return [{"x": values} for values in made]


def result(model, inputs):
    return next(iter(openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(inputs).values()))


def test_an_outlier_is_scaled_down_and_the_result_stays():
    model, given = two_layers(), comments(outlier=100.0)
    before = result(model, given[0])
    outliers.scale_outliers(model, given)
    products = [node for node in model.get_ordered_ops() if node.get_type_name() == "MatMul"]
    sources = {node.input_value(0).get_node().get_name() for node in products}
    assert len(sources) == 1, "both layers share one scaled input"
    scaled = products[0].input_value(0).get_node()
    assert scaled.get_type_name() == "Multiply"
    factors = scaled.input_value(1).get_node().get_data().ravel()
    assert factors.argmin() == 5
    assert factors[5] < 0.2
    assert result(model, given[0]) == pytest.approx(before, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("values", [np.zeros((4, 32), np.float32), np.ones((4, 32), np.float32)])
def test_channels_of_one_size_are_left_alone(values):
    model = two_layers()
    before = len(model.get_ordered_ops())
    outliers.scale_outliers(model, [{"x": values[None]}])
    assert len(model.get_ordered_ops()) == before
