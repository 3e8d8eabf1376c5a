"""Runtimes that people deploy on processors, each as a bare loop over batches with settings tried beforehand."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks.scoring_task import Compute, ScoringTask, best_settings, fill_batches, padded

BATCHES = {"places": (1024, 512, 2048, 4096), "multiple": (1, 8)}


class Loop:
    """A loop of a runtime: token ids of comments, the longest one first, to logits, float `(rows,)`.

    Args:
        compute: of a batch.
        settings: `places`, the most places of a batch, `workers`, the batches that are computed at the same time, and
            what `compute` was made with.
    """

    def __init__(self, compute: Compute, settings: Mapping[str, Any]) -> None:
        self.settings = settings
        self._compute, self._pool = compute, ThreadPoolExecutor(settings["workers"])

    def __call__(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        """Score rows."""
        return np.concatenate(list(self._pool.map(self._compute, fill_batches(rows, self.settings["places"]))))


def tuned(task: ScoringTask, name: str, rows: Sequence[np.ndarray]) -> Loop:
    """The loop of a runtime with the settings that are the fastest on these rows, longest first."""
    make, choices = ENGINES[name]
    models: dict[Any, Callable[..., Compute]] = {}

    def loop(places: int, multiple: int, **options: Any) -> Loop:
        key = tuple(options.items())
        if key not in models:
            models.clear()  # one at a time, so that their threads do not disturb each other
            models[key] = make(task, **options)
        return Loop(models[key](multiple), {"places": places, "multiple": multiple, **options})

    chosen = best_settings(task, name, choices(task) | BATCHES, lambda **options: loop(**options)(rows))
    return loop(**chosen)


def _openvino(task: ScoringTask, model: str, precision: str, workers: int) -> Callable[[int], Compute]:
    openvino = import_openvino()

    options = {
        "INFERENCE_PRECISION_HINT": precision,
        "NUM_STREAMS": workers,
        "INFERENCE_NUM_THREADS": task.cores,
    }
    compiled = openvino.Core().compile_model(str(task.path(model)), "CPU", options)
    requests = [compiled.create_infer_request() for _ in range(workers)]

    def with_padding(multiple: int) -> Compute:
        def compute(rows: Sequence[np.ndarray]) -> np.ndarray:
            ids, mask = padded(rows, multiple)
            request = requests.pop()
            logits = request.infer({"input_ids": ids, "attention_mask": mask})[0][:, 0].copy()
            requests.append(request)
            return logits

        return compute

    return with_padding


def import_openvino() -> ModuleType:
    """The package `openvino`."""
    sys.modules.setdefault("openvino_telemetry", None)  # its import would report itself to Google Analytics
    import openvino

    return openvino


def _precisions(*wanted: str) -> tuple[str, ...]:
    openvino = import_openvino()

    known = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return tuple("f32" if name == "fp32" else name for name in wanted if name.upper() in known) or ("f32",)


def _ctranslate2(task: ScoringTask, inter_threads: int, workers: int) -> Callable[[int], Compute]:
    import ctranslate2

    encoder = ctranslate2.Encoder(
        str(task.path("ctranslate2")),
        compute_type="int8",
        inter_threads=inter_threads,
        intra_threads=task.cores // inter_threads,
    )
    head = np.load(task.path("head.npz"))

    def with_padding(multiple: int) -> Compute:
        def compute(rows: Sequence[np.ndarray]) -> np.ndarray:
            ids, mask = padded(rows, multiple, np.int32)
            lengths = ctranslate2.StorageView.from_array(mask.sum(1, dtype=np.int32))
            pooled = np.array(encoder.forward_batch(ctranslate2.StorageView.from_array(ids), lengths).pooler_output)
            return (pooled @ head["weight"].T + head["bias"])[:, 0]

        return compute

    return with_padding


def _onnxruntime(task: ScoringTask, model: str, workers: int) -> Callable[[int], Compute]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = task.cores // workers
    sessions = [
        onnxruntime.InferenceSession(str(task.path(model)), options, providers=["CPUExecutionProvider"])
        for _ in range(workers)
    ]

    def with_padding(multiple: int) -> Compute:
        def compute(rows: Sequence[np.ndarray]) -> np.ndarray:
            ids, mask = padded(rows, multiple)
            session = sessions.pop()
            (logits,) = session.run(None, {"input_ids": ids, "attention_mask": mask})
            sessions.append(session)
            return logits[:, 0]

        return compute

    return with_padding


def _workers(task: ScoringTask) -> tuple[int, ...]:
    """One batch at a time on all cores, or a batch for each core."""
    return (1, task.cores) if task.cores > 1 else (1,)


def _onnx(form: str) -> tuple[str, ...]:
    return tuple(f"onnx-{kind}-{form}/model.onnx" for kind in ("plain", "fused"))


# By name of the contender: what computes a batch, and the settings to try besides those of batches.
ENGINES: dict[str, tuple[Callable[..., Any], Callable[[ScoringTask], dict[str, tuple[Any, ...]]]]] = {
    "openvino_bf16": (
        _openvino,
        lambda task: {
            "model": ("openvino.xml",),
            "precision": _precisions("bf16"),
            "workers": _workers(task),
        },
    ),
    "openvino_int8": (
        _openvino,
        lambda task: {
            "model": ("openvino_int8.xml",),
            "precision": _precisions("bf16", "fp32"),
            "workers": _workers(task),
        },
    ),
    "ctranslate2_int8": (
        _ctranslate2,
        lambda task: {"inter_threads": _workers(task), "workers": _workers(task)},
    ),
    "onnxruntime_int8": (_onnxruntime, lambda task: {"model": _onnx("int8"), "workers": _workers(task)}),
    "onnxruntime_fp32": (_onnxruntime, lambda task: {"model": _onnx("fp32"), "workers": _workers(task)}),
}
