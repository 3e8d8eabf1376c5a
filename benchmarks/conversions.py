"""Make the models of the contenders of `benchmarks.predict`, once for all rounds: one process per runtime.

python -m benchmarks.conversions NAME TASK.json
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.engines import import_openvino
from benchmarks.sample import recipe_data
from benchmarks.scoring_task import ScoringTask, padded

CALIBRATION_COMMENTS = 300
INPUTS = ("input_ids", "attention_mask")


def own_int8(task: ScoringTask) -> None:
    """This package's int8 export, by the command that users are given."""
    command = ["toxicity.predict", "--model", task.model, "--export", "openvino", "--output", str(task.path("export"))]
    subprocess.run([sys.executable, "-m", *command], stdout=sys.stderr, check=True)


def reference(task: ScoringTask) -> None:
    """Scores in fp32 by torch, to `reference.npy`: what the differences of all contenders' scores are from."""
    from benchmarks.scoring_contenders import read_texts
    from toxicity.hardware.process import prepare_process
    from toxicity.predict.scorer import Scorer

    prepare_process(scoring=True)
    scorer = Scorer(task.model, device="cpu", mixed_precision="no", runtime="torch")
    np.save(task.path("reference.npy"), scorer(read_texts(task.path("comments.csv"))))


def openvino(task: ScoringTask) -> None:
    """OpenVINO with NNCF's static quantisation, calibrated on comments of the training rows, as its guide shows it."""
    openvino = import_openvino()
    import nncf
    from transformers.exporters import OpenVINOConfig, OpenVINOExporter

    from toxicity.core.schema import TEXT
    from toxicity.data.sources import load_splits
    from toxicity.predict.export.conversion import silenced

    # Not by `export.conversion`, which may do more than a user of OpenVINO would get.
    classifier, tokenizer, inputs = _classifier(task)
    with silenced():
        model = OpenVINOExporter().export(classifier, inputs, config=OpenVINOConfig(dynamic=True)).program
    openvino.save_model(model, task.path("openvino.xml"), compress_to_fp16=False)
    texts = load_splits(recipe_data()).train[TEXT][:CALIBRATION_COMMENTS]
    comments = [
        dict(zip(INPUTS, padded([np.array(ids)], 1), strict=True))
        for ids in tokenizer(texts, truncation=True)["input_ids"]
    ]
    quantised = nncf.quantize(
        model, nncf.Dataset(comments), model_type=nncf.ModelType.TRANSFORMER, subset_size=CALIBRATION_COMMENTS
    )
    openvino.save_model(quantised, task.path("openvino_int8.xml"), compress_to_fp16=False)


def ctranslate2(task: ScoringTask) -> None:
    """CTranslate2: the encoder with its pooler in int8; the classifier on top of it is computed with NumPy."""
    from ctranslate2.converters import TransformersConverter

    classifier, *_ = _classifier(task)
    TransformersConverter(task.model).convert(str(task.path("ctranslate2")), quantization="int8", force=True)
    head = classifier.classifier
    np.savez(task.path("head.npz"), weight=head.weight.detach().numpy(), bias=head.bias.detach().numpy())


def onnxruntime(task: ScoringTask) -> None:
    """ONNX Runtime, plain and with layers fused; int8 with weights per channel, and inputs quantised on the fly."""
    from transformers.exporters import OnnxConfig, OnnxExporter, OnnxRuntimeDynamicConfig, OnnxRuntimeQuantizer

    from toxicity.predict.export.conversion import silenced

    classifier, _, inputs = _classifier(task)
    linear_layers = OnnxRuntimeDynamicConfig(per_channel=True, op_types_to_quantize=["MatMul", "Gemm"])
    for fusions in (None, "cpu"):
        for form, quantizer in (("fp32", None), ("int8", OnnxRuntimeQuantizer(linear_layers))):
            config = OnnxConfig(dynamic=True, ort_fusions=fusions, quantizer=quantizer)
            with silenced():
                exported = OnnxExporter().export(classifier, inputs, config=config)
            exported.save_pretrained(task.path(f"onnx-{'fused' if fusions else 'plain'}-{form}"))


def _classifier(task: ScoringTask) -> tuple[Any, Any, dict[str, Any]]:
    """The classifier, its tokenizer, and inputs to export it with."""
    from toxicity.models.pretrained import load_classifier, load_config_and_tokenizer

    config, tokenizer = load_config_and_tokenizer(task.model, "main")
    encoded = tokenizer(["one comment", "and another that is longer"], padding=True, return_tensors="pt")
    inputs = {name: encoded[name] for name in INPUTS}
    return load_classifier(task.model, "main", config, padding_free=False).eval(), tokenizer, inputs


CONVERSIONS: dict[str, Callable[[ScoringTask], None]] = {
    "reference": reference,
    "own_int8": own_int8,
    "openvino": openvino,
    "ctranslate2": ctranslate2,
    "onnxruntime": onnxruntime,
}


def main() -> None:
    """Make the models of one runtime."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=CONVERSIONS)
    parser.add_argument("task", type=Path)
    arguments = parser.parse_args()
    CONVERSIONS[arguments.name](ScoringTask(**json.loads(arguments.task.read_text())))


if __name__ == "__main__":
    main()
