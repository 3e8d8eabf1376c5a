"""Quantise a converted classifier to int8 with NNCF, with as few layers in floating point as its scores need."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import logit

from toxicity.core.errors import RequestError
from toxicity.predict.export.conversion import silenced

if TYPE_CHECKING:
    import openvino

# How far logits of the scores of other comments may be from those of fp32, as a root mean square. The largest
# difference of thousands of scores is too much a matter of chance to go by, as only scores near 0.5 change much.
LOGIT_DIFFERENCE = 0.02
# At most one of so many inputs of layers is left in floating point, as int8 would else be no faster.
INPUTS_FOR_ONE_IN_FLOATING_POINT = 4
# Scores closer to 0 or 1 count as if they were that far, as their logits are a matter of rounding.
LEAST_SCORE = 1e-6

logger = logging.getLogger(__name__)


def require_nncf() -> None:
    """Raise `RequestError` if NNCF is not installed."""
    try:
        with silenced():
            import nncf  # noqa: F401
    except ImportError as error:
        raise RequestError(f"NNCF is not installed ({error}): pip install -r requirements-openvino.txt") from error


def quantised(
    model: openvino.Model,
    calibration: Sequence[dict[str, np.ndarray]],
    held_back: Sequence[dict[str, np.ndarray]],
    score: Callable[[np.ndarray], np.ndarray],
) -> openvino.Model:
    """Quantise the weights and inputs of a model's linear layers, statically, to int8.

    Layers are left in floating point one by one, the one that costs the scores most first, until scores of other
    comments are close to those of `model` (see `LOGIT_DIFFERENCE`), or int8 would be no faster.

    Args:
        model: a converted model in fp32.
        calibration: inputs of the model that the ranges of values are taken from, one comment each.
        held_back: inputs of other comments, some each.
        score: makes scores of the model's logits `(rows, labels)`, float `(rows,)`, or `(rows, scores)` for several
            labels, which count alike: what costs a rare one its scores would not show in those of the main one.
    """
    import nncf
    import openvino

    precise = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    expected = _logits(precise, held_back, score)

    def closeness(compiled: openvino.CompiledModel, dataset: Iterable[Any]) -> tuple[float, None]:
        numbers = list(dataset)
        found = _logits(compiled, [held_back[number] for number in numbers], score)
        differences = np.concatenate(found) - np.concatenate([expected[number] for number in numbers])
        # From 1 on down, as NNCF divides by that of `model`.
        return 1 - float(np.sqrt((differences**2).mean())), None

    # A layer that needs more than the range of most comments is one of those that stay in floating point.
    median = nncf.quantization.range_estimator.RangeEstimatorParametersSet.MEDIAN_MINMAX
    most = len({source.get_node().get_name() for source in map(_source, linear_layers(model))})
    with silenced():
        return nncf.quantize_with_accuracy_control(
            model,
            nncf.Dataset(calibration),
            nncf.Dataset(range(len(held_back))),
            closeness,
            max_drop=LOGIT_DIFFERENCE,
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(calibration),
            advanced_quantization_parameters=nncf.AdvancedQuantizationParameters(
                activations_range_estimator_params=median,
                # No SmoothQuant: weights that grow coarser cost single comments more than it saves the others.
                smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=-1),
            ),
            advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(
                max_num_iterations=max(1, most // INPUTS_FOR_ONE_IN_FLOATING_POINT)
            ),
        )


def _logits(
    compiled: openvino.CompiledModel, comments: Sequence[dict[str, np.ndarray]], score: Callable[[Any], np.ndarray]
) -> list[np.ndarray]:
    request = compiled.create_infer_request()
    scores = [score(next(iter(request.infer(inputs).values()))) for inputs in comments]
    return [logit(np.clip(found, LEAST_SCORE, 1 - LEAST_SCORE)) for found in scores]


def floating_layers(model: openvino.Model) -> list[str]:
    """Names of the linear layers of a quantised model that are computed in floating point."""
    layers = linear_layers(model)
    return [node.get_friendly_name() for node in layers if _source(node).get_node().get_type_name() != "FakeQuantize"]


def linear_layers(model: openvino.Model) -> list[openvino.Node]:
    """The products of a model with weights `(outputs, inputs)`."""
    products = [node for node in model.get_ordered_ops() if node.get_type_name() == "MatMul"]
    return [node for node in products if len(node.get_input_partial_shape(1)) == 2]


def _source(linear: openvino.Node) -> openvino.Output:
    """What the input of a layer is computed by, before its axes are changed."""
    source = linear.input_value(0)
    while source.get_node().get_type_name() in ("Reshape", "Transpose"):
        source = source.get_node().input_value(0)
    return source
