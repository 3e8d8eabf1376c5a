"""Convert a classifier to the formats of other runtimes, with the exporters of transformers."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from toxicity.predict.export.first_token import keep_first_token

if TYPE_CHECKING:
    import openvino
    import torch

# The inputs of every converted model: whoever hands the tokenizer's result to it needs no more.
INPUTS = ("input_ids", "attention_mask")


def to_openvino(classifier: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> openvino.Model:
    """Convert a classifier of transformers, in evaluation mode and not `padding_free`, to OpenVINO in fp32.

    What only the first token needs is computed for it alone (see `first_token`).

    Returns:
        A model from `input_ids` and `attention_mask`, int64 `(rows, places)`, to `logits`, float32 `(rows, labels)`.
    """
    from transformers.exporters import OpenVINOConfig, OpenVINOExporter

    with silenced():
        inputs = example_inputs(tokenizer)
        model = OpenVINOExporter().export(classifier, inputs, config=OpenVINOConfig(dynamic=True)).program
    keep_first_token(model)
    return model


def example_inputs(tokenizer: PreTrainedTokenizerBase) -> dict[str, torch.Tensor]:
    """Inputs to follow a model's computation with."""
    # Two rows of several tokens: the exporter would take a size of 1 for a constant.
    encoded = tokenizer(["one comment", "and another that is longer"], padding=True, return_tensors="pt")
    return {name: encoded[name] for name in INPUTS}


@contextmanager
def silenced() -> Iterator[None]:
    """Silence progress bars, warnings, and what torch logs of a model that it cannot follow.

    The warnings are about package versions that exporters were not tested with, for which scores are compared; why a
    conversion failed is in its exception.
    """
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(action="ignore"), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(disabled)
