"""Export a classifier to OpenVINO, in fp32 and in int8."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from toxicity.predict.export.quantisation import floating_layers, quantised, require_nncf
from toxicity.predict.openvino_runtime import import_openvino

if TYPE_CHECKING:
    import openvino

FORMS = ("fp32", "int8")
PACKAGES = ("torch", "transformers", "openvino", "nncf")
FILE = "openvino_model.xml"

logger = logging.getLogger(__name__)


def require_packages() -> None:
    """Raise `RequestError` if OpenVINO or NNCF is not installed."""
    import_openvino()
    require_nncf()


def export(
    model: openvino.Model,
    folders: Mapping[str, Path],
    calibration: Sequence[dict[str, np.ndarray]],
    held_back: Sequence[dict[str, np.ndarray]],
    score: Callable[[np.ndarray], np.ndarray],
) -> list[str]:
    """Write a converted classifier to the folders `fp32` and `int8`.

    Args:
        model: see `to_openvino`.
        folders: where to write each form to.
        calibration, held_back, score: as for `quantised`.

    Returns:
        Names of the linear layers that int8 leaves in floating point.
    """
    import openvino

    openvino.save_model(model, folders["fp32"] / FILE, compress_to_fp16=False)
    rows, others = (sum(len(inputs["input_ids"]) for inputs in batches) for batches in (calibration, held_back))
    logger.info(f"Quantising to int8: {rows:,} comments calibrate, {others:,} others check what it costs")
    int8 = quantised(model, calibration, held_back, score)
    openvino.save_model(int8, folders["int8"] / FILE, compress_to_fp16=False)
    layers = floating_layers(int8)
    if layers:
        logger.info(f"Left in floating point, as they cost accuracy: {', '.join(layers)}")
    return layers
