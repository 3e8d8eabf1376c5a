"""Export a classifier to ONNX, in fp32."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from toxicity.core.errors import RequestError
from toxicity.predict.export.conversion import example_inputs, silenced

FORMS = ("fp32",)
PACKAGES = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime")


def require_packages() -> None:
    """Raise `RequestError` if packages are missing, or transformers cannot export with this torch."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
        from transformers.exporters import OnnxConfig, OnnxExporter  # noqa: F401
    except ImportError as error:
        if (error.name or "").startswith("torch."):
            raise RequestError(
                f"transformers cannot export with torch {version('torch')}: export the model where a later torch is "
                "installed. The export can be scored with this one."
            ) from error
        raise RequestError(f"{error.name} is not installed: pip install -r requirements-onnx.txt") from error


def export(classifier: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folders: Mapping[str, Path]) -> None:
    """Write a classifier, in evaluation mode and not `padding_free`, to the folder `fp32`."""
    from transformers.exporters import OnnxConfig, OnnxExporter

    with silenced():
        exported = OnnxExporter().export(classifier, example_inputs(tokenizer), config=OnnxConfig(dynamic=True))
    exported.save_pretrained(folders["fp32"])
