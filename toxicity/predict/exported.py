"""Find the model of another runtime in a folder that `--export`, `optimum` or the Hub filled."""

from __future__ import annotations

from pathlib import Path

from toxicity.core.errors import RequestError

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
