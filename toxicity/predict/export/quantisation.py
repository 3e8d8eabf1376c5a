"""Quantise a converted classifier to int8 with NNCF, with as few layers in floating point as its scores need."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from toxicity.core.errors import RequestError
from toxicity.predict.export.conversion import silenced
from toxicity.predict.export.outliers import linear_layers, scale_outliers

if TYPE_CHECKING:
    import openvino

# How far scores of other comments may be from those of fp32: on average, and as a root mean square. The largest
# difference of thousands of comments is fifteen to twenty-five times that, and too much a matter of chance to go by.
MEAN_DIFFERENCE, RMS_DIFFERENCE = 0.0015, 0.003
# At most one of so many inputs of layers is left in floating point, as int8 would else be no faster.
INPUTS_FOR_ONE_IN_FLOATING_POINT = 8

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
    comments are close to those of `model` (see `MEAN_DIFFERENCE`), or int8 would be no faster.

    Args:
        model: a converted model in fp32; it is changed (see `scale_outliers`), and its results stay the same.
        calibration: inputs of the model that the ranges of values are taken from, each for some comments.
        held_back: inputs of other comments.
        score: makes scores, float `(rows,)`, of the model's logits `(rows, labels)`.
    """
    import nncf
    import openvino

    scale_outliers(model, calibration)
    precise = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    expected = _scores(precise, held_back, score)

    def closeness(compiled: openvino.CompiledModel, dataset: Iterable[Any]) -> tuple[float, None]:
        numbers = list(dataset)
        found = _scores(compiled, [held_back[number] for number in numbers], score)
        differences = np.concatenate(found) - np.concatenate([expected[number] for number in numbers])
        mean, rms = np.abs(differences).mean(), np.sqrt((differences**2).mean())
        # From 1 on down, as NNCF divides by that of `model`.
        return 1 - float(max(mean / MEAN_DIFFERENCE, rms / RMS_DIFFERENCE)), None

    largest = nncf.quantization.range_estimator.RangeEstimatorParametersSet.MINMAX
    most = len(linear_layers(model)) // INPUTS_FOR_ONE_IN_FLOATING_POINT
    with silenced():
        return nncf.quantize_with_accuracy_control(
            model,
            nncf.Dataset(calibration),
            nncf.Dataset(range(len(held_back))),
            closeness,
            max_drop=1.0,
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(calibration),
            advanced_quantization_parameters=nncf.AdvancedQuantizationParameters(
                activations_range_estimator_params=largest,
                # In place of SmoothQuant, whose factors for all channels cost the weights too much.
                smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=-1),
            ),
            advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(
                max_num_iterations=max(1, most)
            ),
        )


def _scores(
    compiled: openvino.CompiledModel, comments: Sequence[dict[str, np.ndarray]], score: Callable[[Any], np.ndarray]
) -> list[np.ndarray]:
    request = compiled.create_infer_request()
    return [score(next(iter(request.infer(inputs).values()))) for inputs in comments]


def floating_layers(model: openvino.Model) -> list[str]:
    """Names of the linear layers of a quantised model that are computed in floating point."""
    products = [node for node in model.get_ordered_ops() if node.get_type_name() == "MatMul"]
    linear = [node for node in products if len(node.get_input_partial_shape(1)) == 2]
    return [node.get_friendly_name() for node in linear if not _is_quantised(node)]


def _is_quantised(node: openvino.Node) -> bool:
    source = node.input_value(0).get_node()
    while source.get_type_name() in ("Reshape", "Transpose"):
        source = source.input_value(0).get_node()
    return source.get_type_name() == "FakeQuantize"
