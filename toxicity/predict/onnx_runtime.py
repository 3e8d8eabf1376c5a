"""Run a model that `--export onnx` wrote in ONNX Runtime, behind the interface of a `transformers` model."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from toxicity.core.errors import RequestError


class OnnxModel(nn.Module):
    """The exported model in a `model.onnx`, on the CPU; it is called like a `transformers` model, with padded batches.

    Raises:
        RequestError: if ONNX Runtime is not installed.
        Exception: whatever ONNX Runtime raises if the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        try:
            import onnxruntime
        except ImportError as error:
            raise RequestError(f"{path} needs ONNX Runtime: pip install -r requirements-onnx.txt") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.eval()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Logits `(rows, labels)`."""
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        inputs = {"input_ids": input_ids.numpy(), "attention_mask": attention_mask.numpy()}
        return torch.from_numpy(self._session.run(["logits"], inputs)[0])


def exported_file(model_name_or_path: str) -> Path | None:
    """The `model.onnx` in the folder of a model; None if there is none."""
    path = Path(model_name_or_path) / "model.onnx"
    return path if path.is_file() else None
