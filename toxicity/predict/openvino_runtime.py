"""Run a model in OpenVINO on the processor, behind the interface of `transformers`."""

from __future__ import annotations

import sys
from pathlib import Path
from queue import SimpleQueue
from types import ModuleType
from typing import TYPE_CHECKING

import torch
from torch import nn

from toxicity.core.errors import RequestError, one_line
from toxicity.hardware.cpu import usable_cores
from toxicity.hardware.precision import precision_name
from toxicity.predict.exported import OPTIONAL, REQUIRED, inputs_of

if TYPE_CHECKING:
    import openvino

PRECISIONS = {"no": "f32", "bf16": "bf16"}


def import_openvino() -> ModuleType:
    """The package `openvino`.

    Raises:
        RequestError: if it is not installed, or cannot be imported.
    """
    # Its import, and that of NNCF, would report itself to Google Analytics, whether the user was asked or not.
    sys.modules.setdefault("openvino_telemetry", None)
    try:
        import openvino
        from openvino import Core  # noqa: F401  # not in a mere folder of that name, which Python takes for a package
    except (ImportError, OSError) as error:  # the latter where a library that it is linked with is missing
        raise RequestError(
            f"OpenVINO is not installed ({one_line(error)}): pip install -r requirements-openvino.txt"
        ) from error
    return openvino


class OpenVinoModel(nn.Module):
    """A classifier in OpenVINO, on the processor; it is called like a `transformers` model, with padded batches.

    Its logits are the output of that name, or else the first one. Where it has the input `token_type_ids`, all tokens
    are of type 0, as for every single text. Several threads may call it: `streams` of them are served at a time, each
    with an equal part of the cores, the others after them.

    Args:
        model: a converted model, or the path of one.
        labels: how many labels the model's config has.
        mixed_precision: what floating-point layers are computed in, `no` (fp32) or `bf16`.
        streams: calls that are computed at a time. Two with one core each compute more texts a second than one with
            two, where a call has few: one that needs both waits in every layer for the core that is later.

    Raises:
        RequestError: if OpenVINO is not installed or cannot read the file, if the model does not compute so many
            logits from the tokens, or if this processor cannot compute it in that precision.
    """

    def __init__(self, model: Path | openvino.Model, labels: int, mixed_precision: str, streams: int = 1) -> None:
        super().__init__()
        openvino = import_openvino()
        core, name = openvino.Core(), model if isinstance(model, Path) else "the converted model"
        if isinstance(model, Path):
            try:
                model = core.read_model(model)
            except RuntimeError as error:
                raise RequestError(
                    f"OpenVINO {openvino.__version__.split('-')[0]} cannot read {name}; it is damaged, without its "
                    f".bin, or of another version: export the model again. ({one_line(error)})"
                ) from error
        inputs = {port.any_name: port.element_type.to_dtype() for port in model.inputs}
        if not set(REQUIRED) <= inputs.keys() <= {*REQUIRED, OPTIONAL}:
            raise RequestError(
                f"{name} has the inputs {', '.join(inputs)}; a classifier of comments has {' and '.join(REQUIRED)}, "
                f"and perhaps {OPTIONAL}."
            )
        outputs = {port.any_name: port for port in model.outputs}
        self._output = list(outputs).index("logits") if "logits" in outputs else 0
        output, shape = model.outputs[self._output].any_name, model.outputs[self._output].partial_shape
        if not shape.compatible(openvino.PartialShape([-1, labels])):
            raise RequestError(
                f"{name} gives `{output}` of the shape {shape}, and not {labels} logits for each comment: "
                "export it with the head that classifies."
            )
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": PRECISIONS[mixed_precision],
        }
        if torch.get_num_threads() < usable_cores():
            # Other processes use the other cores, and each would pin its threads to the first ones.
            options["ENABLE_CPU_PINNING"] = False
        self._inputs = inputs
        # A request holds the tensors of one call.
        self._free_requests: SimpleQueue[openvino.InferRequest] = SimpleQueue()
        self.eval()
        bf16 = mixed_precision == "bf16"
        try:
            if bf16 and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
                raise RuntimeError("this processor has no instructions for it")
            compiled = core.compile_model(model, "CPU", options)
            for _ in range(streams):
                self._free_requests.put(compiled.create_infer_request())
            # Some of what a processor cannot do shows only now.
            self(torch.zeros((1, 2), dtype=torch.int64))
        except RuntimeError as error:
            way_out = "choose mixed_precision no" if bf16 else "score the model that it was made of with torch"
            precision = precision_name(mixed_precision)
            raise RequestError(
                f"OpenVINO cannot compute {name} in {precision} on this processor: {way_out}. ({one_line(error)})"
            ) from error

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Logits `(rows, labels)`."""
        inputs = inputs_of(input_ids, attention_mask, self._inputs)
        request = self._free_requests.get()
        try:
            request.infer(inputs, share_inputs=True)
            return torch.from_numpy(request.get_output_tensor(self._output).data.copy())
        finally:
            self._free_requests.put(request)
