"""Find the model of another runtime in a folder that `--export`, `optimum` or the Hub filled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from toxicity.core.errors import RequestError

# Inputs of an exported classifier.
REQUIRED, OPTIONAL = ("input_ids", "attention_mask"), "token_type_ids"
# Names of exported models → the runtime that computes them; `optimum` and the Hub also have them in the subfolder.
EXPORTED = {"openvino_model.xml": ("openvino", "openvino"), "model.onnx": ("onnxruntime", "onnx")}


def exported_file(model_name_or_path: str) -> Path | None:
    """The `openvino_model.xml` or `model.onnx` in the folder of a model; None if there is none.

    Without weights for torch, also that of the subfolder `openvino` or `onnx`, where `optimum` and the Hub have it.

    Raises:
        RequestError: for a folder that holds several exports, in subfolders.
    """
    folder = Path(model_name_or_path)
    paths = [folder / name for name in EXPORTED]
    if not any(folder.glob("model*.safetensors")):
        paths += [folder / subfolder / name for name, (_, subfolder) in EXPORTED.items()]
    if found := next(filter(Path.is_file, paths), None):
        return found
    exports = sorted({path.parent for name in EXPORTED for path in folder.glob(f"*/{name}")})
    if exports and not (folder / "config.json").is_file():
        raise RequestError(f"{folder} holds exports, and is none: name {' or '.join(map(str, exports))}.")
    return None


def runtime_of(exported: Path) -> str:
    """The runtime that computes an exported file, `openvino` or `onnxruntime`."""
    return EXPORTED[exported.name][0]


def inputs_of(
    batch: torch.Tensor, attention_mask: torch.Tensor | None, types: Mapping[str, type[np.generic] | np.dtype]
) -> dict[str, np.ndarray]:
    """The inputs of an exported classifier for a padded batch; all tokens are of type 0, as for every single text.

    Args:
        batch: token ids, int64 `(rows, places)`.
        attention_mask: 1 for tokens and 0 for padding, of that shape; None where there is no padding.
        types: the type of each input that the model has.
    """
    given = {
        "input_ids": batch.numpy(),
        "attention_mask": (torch.ones_like(batch) if attention_mask is None else attention_mask).numpy(),
        OPTIONAL: np.zeros(batch.shape, dtype=np.int64),
    }
    return {name: given[name].astype(kind, copy=False) for name, kind in types.items()}
