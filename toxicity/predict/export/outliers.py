"""Scale down the few channels of a layer's input that are far larger than all others, before it is quantised.

In encoders, single channels of single tokens (as [CLS] and [SEP]) are ten times as large as all others. As the inputs
of a layer are quantised by one scale, the others would get a few of its 256 steps. Divided by a factor, with the
layer's weights multiplied by it, the result is the same, and the steps suit all channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import openvino

# How many of the largest channels may be scaled down, to the size of the next one.
SCALED_CHANNELS = (0, 1, 2, 4)
# Only where the error becomes a third or less: larger weights of scaled channels cost the others some precision, which
# single comments feel more than the average.
WORTH_SCALING = 1 / 3
# Tokens whose products are compared; the largest value of a channel is taken from all.
COMPARED_TOKENS = 1_500


def scale_outliers(model: openvino.Model, comments: Sequence[dict[str, np.ndarray]]) -> None:
    """Change a model in place, so that its linear layers lose less when they are quantised; its results are the same.

    For every input of linear layers, the number of channels that are scaled is the one of which a quantised product
    differs least from the exact one, on average over tokens and relative to the token's own product.

    Args:
        model: a converted model in fp32.
        comments: inputs of the model, each for some comments.
    """
    from openvino import opset13

    layers = linear_layers(model)
    for linear, (tokens, largest) in zip(layers, _seen(model, layers, comments), strict=True):
        weights = [layer.input_value(1).get_node().get_data() for layer in linear]
        scales = _best_scales(tokens, largest, np.concatenate(weights))
        if scales is None:
            continue
        source = linear[0].input_value(0)
        shape = (1,) * (len(source.get_partial_shape()) - 1) + (-1,)
        scaled = opset13.multiply(source, (1 / scales).astype(np.float32).reshape(shape))
        for layer, weight in zip(linear, weights, strict=True):
            layer.input(0).replace_source_output(scaled.output(0))
            layer.input(1).replace_source_output(opset13.constant((weight * scales).astype(np.float32)).output(0))
    model.validate_nodes_and_infer_types()


def linear_layers(model: openvino.Model) -> list[list[openvino.Node]]:
    """Products with constant weights `(outputs, inputs)`, those of one input together."""
    layers = {}
    for node in model.get_ordered_ops():
        if node.get_type_name() == "MatMul" and node.input_value(1).get_node().get_type_name() == "Constant":
            kinds = node.get_attributes()
            if kinds["transpose_b"] and not kinds["transpose_a"] and len(node.get_input_partial_shape(1)) == 2:
                source = node.input_value(0)
                layers.setdefault((source.get_node().get_name(), source.get_index()), []).append(node)
    return list(layers.values())


def _seen(
    model: openvino.Model, layers: list[list[openvino.Node]], comments: Sequence[dict[str, np.ndarray]]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of the input of each group of layers: some tokens `(tokens, channels)`, and each channel's largest size."""
    import openvino

    names = [linear[0].get_friendly_name() for linear in layers]
    watched = model.clone()
    found = {node.get_friendly_name(): node for node in watched.get_ordered_ops()}
    outputs = len(watched.outputs)
    watched.add_outputs([found[name].input_value(0) for name in names])
    precise = {"INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.Core().compile_model(watched, "CPU", precise).create_infer_request()
    tokens, largest = [[] for _ in names], [np.zeros(1)] * len(names)
    for inputs in comments:
        request.infer(inputs)
        for number in range(len(names)):
            values = request.get_output_tensor(outputs + number).data
            values = values.reshape(-1, values.shape[-1])
            largest[number] = np.maximum(largest[number], np.abs(values).max(axis=0))
            if sum(map(len, tokens[number])) < COMPARED_TOKENS:
                tokens[number].append(values.copy())
    return [(np.concatenate(parts), sizes) for parts, sizes in zip(tokens, largest, strict=True)]


def _best_scales(tokens: np.ndarray, largest: np.ndarray, weights: np.ndarray) -> np.ndarray | None:
    """The factors by which the channels are best divided; None if that is best left out."""
    exact = tokens @ weights.T
    squares = (exact**2).sum(axis=1) + np.finfo(np.float32).tiny
    ordered = np.sort(largest)[::-1]
    best, least = None, np.inf  # the least error that scaling must stay below
    for channels in (number for number in SCALED_CHANNELS if number < len(ordered) // 2 and ordered[number] > 0):
        scales = np.maximum(1, largest / ordered[channels]).astype(np.float32)
        product = _quantised_inputs(tokens / scales) @ _quantised_weights(weights * scales).T
        error = float((((product - exact) ** 2).sum(axis=1) / squares).mean())
        if not channels:
            least = error * WORTH_SCALING
        elif error < least:
            best, least = scales, error
    return best


def _quantised_inputs(values: np.ndarray) -> np.ndarray:
    low, high = min(values.min(), 0), max(values.max(), 0)
    step = max(high - low, np.finfo(np.float32).tiny) / 255
    return (np.round((values - low) / step)) * step + np.round(low / step) * step


def _quantised_weights(weights: np.ndarray) -> np.ndarray:
    steps = np.maximum(np.abs(weights).max(axis=1, keepdims=True), np.finfo(np.float32).tiny) / 127
    return np.round(weights / steps) * steps
