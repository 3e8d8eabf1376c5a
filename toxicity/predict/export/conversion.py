"""Convert a classifier to the formats of other runtimes, with the exporters of transformers."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING

from transformers import PreTrainedModel, PreTrainedTokenizerBase

if TYPE_CHECKING:
    import openvino

# The inputs of every converted model: whoever hands the tokenizer's result to it needs no more.
INPUTS = ("input_ids", "attention_mask")


def to_openvino(classifier: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> openvino.Model:
    """Convert a classifier of transformers, in evaluation mode and not `padding_free`, to OpenVINO in fp32.

    Returns:
        A model from `input_ids` and `attention_mask`, int64 `(rows, places)`, to `logits`, float32 `(rows, labels)`.
    """
    from transformers.exporters import OpenVINOConfig, OpenVINOExporter

    # Two rows of several tokens: the exporter would take a size of 1 for a constant.
    encoded = tokenizer(["one comment", "and another that is longer"], padding=True, return_tensors="pt")
    inputs = {name: encoded[name] for name in INPUTS}
    with silenced():
        return OpenVINOExporter().export(classifier, inputs, config=OpenVINOConfig(dynamic=True)).program


@contextmanager
def silenced() -> Iterator[None]:
    """Silence the exporters' warnings about package versions they were not tested with: the comparison tests them."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"), redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(disabled)
