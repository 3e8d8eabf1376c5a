"""Run a model in ONNX Runtime, one that `--export onnx` or `optimum` wrote, behind the interface of `transformers`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from toxicity.core.errors import RequestError
from toxicity.predict.exported import OPTIONAL, REQUIRED, inputs_of

# Types that ONNX Runtime names → types of NumPy.
TYPES = {"tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(float)": np.float32, "tensor(bool)": np.bool_}


class OnnxModel(nn.Module):
    """A classifier in an ONNX file, on the CPU; it is called like a `transformers` model, with padded batches.

    Its logits are the output of that name, or else the first one. Where it has the input `token_type_ids`, all tokens
    are of type 0, as for every single text.

    Args:
        path: the file.
        labels: how many labels the model's config has.

    Raises:
        RequestError: if ONNX Runtime is not installed, or the model does not compute so many logits from the tokens.
        Exception: whatever ONNX Runtime raises if the file is damaged.
    """

    def __init__(self, path: Path, labels: int) -> None:
        super().__init__()
        try:
            import onnxruntime
        except ImportError as error:
            raise RequestError(f"{path} needs ONNX Runtime: pip install -r requirements-onnx.txt") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        inputs = {value.name: TYPES.get(value.type) for value in self._session.get_inputs()}
        outputs = {value.name: value.shape for value in self._session.get_outputs()}
        if not set(REQUIRED) <= inputs.keys() <= {*REQUIRED, OPTIONAL} or None in inputs.values():
            raise RequestError(
                f"{path} has the inputs {', '.join(inputs)}; a classifier of comments has {' and '.join(REQUIRED)}, "
                f"and perhaps {OPTIONAL}."
            )
        self._inputs = inputs
        self._output = "logits" if "logits" in outputs else next(iter(outputs))
        shape = outputs[self._output]
        if len(shape) != 2 or (isinstance(shape[1], int) and shape[1] != labels):
            raise RequestError(
                f"{path} gives `{self._output}` of the shape {list(shape)}, and not {labels} logits for each comment: "
                "export it with the head that classifies."
            )
        self.eval()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Logits `(rows, labels)`."""
        inputs = inputs_of(input_ids, attention_mask, self._inputs)
        return torch.from_numpy(self._session.run([self._output], inputs)[0])
