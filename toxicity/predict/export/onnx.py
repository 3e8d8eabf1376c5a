"""A trained model → ONNX, in fp32 and int8, each measured against torch on labelled comments before it is believed.

The exporter, and the front of ONNX Runtime's quantizer, are those of transformers (`transformers.exporters`).
"""

from __future__ import annotations

import importlib.metadata
import io
import json
import logging
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from sklearn.metrics import roc_auc_score
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging as transformers_logging

from toxicity.core.arguments import DataArguments
from toxicity.core.errors import RequestError, one_line
from toxicity.core.files import write_text
from toxicity.core.markdown import markdown_table
from toxicity.core.schema import TARGET, TEXT, hard_labels
from toxicity.data.sources import labels_of, load_splits, read_file
from toxicity.models.classifier import refuse_pickled_weights
from toxicity.predict.onnx_runtime import exported_file
from toxicity.predict.scorer import Scorer

REPORT = "export.json"
FORMS = ("fp32", "int8")
PACKAGES = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime")
# The comments that recipes/sample.yaml validates on.
SAMPLE = {"dataset_name": "sample", "max_train_samples": 4000, "max_eval_samples": 2000}

logger = logging.getLogger(__name__)


def export_and_compare(
    model: str,
    revision: str,
    output: Path,
    labelled: str | None = None,
    text_column_name: str | None = None,
    label_column_name: str | None = None,
) -> dict[str, Any]:
    """Export a model, then score labelled comments with it in every form, and tell and keep how they differ.

    Args:
        model: folder of a run, or a model on the Hub.
        revision: branch, tag or commit on the Hub.
        output: folder, in which `fp32/` and `int8/` are made (or replaced), models that `Scorer` takes, and
            `export.json`, the comparison; nothing in it changes before all is measured.
        labelled: file or folder of comments with their toxicity; by default the sample's validation rows.
        text_column_name: its column of the comment.
        label_column_name: its column of the toxicity.

    Returns:
        What `export.json` holds: `rows`, `versions`, and for `torch`, `fp32` and `int8` the `auc` (None where the
        comments are all of one class) and `largest_score_difference` from torch in fp32, and for the latter two
        `megabytes`.

    Raises:
        RequestError: if the packages for it are missing, the model or the comments cannot be read, or the folder
            cannot be written to.
    """
    if exported_file(model) is not None:
        raise RequestError(f"{model} is an export already: name the model that it was made of.")
    unfinished = output / ".unfinished"
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
    except OSError as error:
        raise RequestError(f"cannot write to {output}: {error.strerror}. Name another folder as --output.") from error
    try:
        texts, labels = _labelled_comments(labelled, text_column_name, label_column_name)
        expected = Scorer(model, revision, device="cpu", mixed_precision="no")(texts)
        export(model, revision, unfinished)
        report = _compare(unfinished, texts, labels, expected, labelled or SAMPLE["dataset_name"])
        # A report without its models, or with others, is never seen.
        (output / REPORT).unlink(missing_ok=True)
        for form in FORMS:
            shutil.rmtree(output / form, ignore_errors=True)
            (unfinished / form).rename(output / form)
        write_text(output / REPORT, json.dumps(report, indent=1) + "\n")
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    print(_table(report), flush=True)
    return report


def _compare(folder: Path, texts: list[str], labels: np.ndarray, expected: np.ndarray, labelled: str) -> dict[str, Any]:
    """The report on the exports in a folder; `expected` are the scores of torch."""
    report = {
        "rows": len(texts),
        "labelled": labelled,
        "versions": {package: importlib.metadata.version(package) for package in PACKAGES},
        "torch": {"auc": _auc(labels, expected), "largest_score_difference": 0.0},
    }
    for form in FORMS:
        scores = Scorer(str(folder / form))(texts)
        report[form] = {
            "auc": _auc(labels, scores),
            "largest_score_difference": float(np.abs(scores - expected).max()),
            "megabytes": sum(path.stat().st_size for path in (folder / form).glob("*.onnx*")) / 1e6,
        }
    return report


def export(model: str, revision: str, output: Path) -> None:
    """Write `fp32/` and `int8/` below `output`: `model.onnx`, its weights, the config and the tokenizer.

    int8 quantises the weights of the linear layers by channel, and their inputs as they come
    (`onnxruntime.quantization.quantize_dynamic`), so it needs no comments to calibrate on.

    Raises:
        RequestError: if the packages for it are missing, or the model cannot be read.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
        from transformers.exporters import (
            OnnxConfig,
            OnnxExporter,
            OnnxRuntimeDynamicConfig,
            OnnxRuntimeQuantizer,
        )
    except ImportError as error:
        raise RequestError(f"{error.name} is not installed: pip install -r requirements-onnx.txt") from error
    refuse_pickled_weights(model)
    try:
        tokenizer = AutoTokenizer.from_pretrained(model, revision=revision, use_fast=True, trust_remote_code=False)
        classifier = AutoModelForSequenceClassification.from_pretrained(
            model, revision=revision, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
        ).eval()
    except (OSError, ValueError, SafetensorError) as error:
        raise RequestError(f"cannot load {model}: {one_line(error)}") from error
    encoded = tokenizer(["one comment", "and another that is longer"], padding=True, return_tensors="pt")
    # Two rows of some tokens: a size of 1 would be taken for fixed.
    inputs = {name: encoded[name] for name in ("input_ids", "attention_mask")}
    # Embeddings stay as they are: no arithmetic would be saved, and scores would move more.
    linear_layers = OnnxRuntimeDynamicConfig(per_channel=True, op_types_to_quantize=["MatMul", "Gemm"])
    for form, quantizer in zip(FORMS, (None, OnnxRuntimeQuantizer(linear_layers)), strict=True):
        logger.info(f"Exporting in {form}")
        with _quiet():
            exported = OnnxExporter().export(classifier, inputs, config=OnnxConfig(dynamic=True, quantizer=quantizer))
        exported.save_pretrained(output / form)
        tokenizer.save_pretrained(output / form)


def _labelled_comments(
    path: str | None, text_column_name: str | None, label_column_name: str | None
) -> tuple[list[str], np.ndarray]:
    if path is None:
        validation = load_splits(DataArguments(**SAMPLE)).validation
        return validation[TEXT][:], labels_of(validation)
    arguments = DataArguments(train_file=path, text_column_name=text_column_name, label_column_name=label_column_name)
    source = read_file(path, arguments)
    for bad in source.bad_rows.values():
        raise RequestError(f"{bad.file}, row {bad.row:,}: {bad.reason}. An export is measured on rows that are whole.")
    return source.table[TEXT].to_pylist(), hard_labels(source.table[TARGET].to_numpy())


def _auc(labels: np.ndarray, scores: np.ndarray) -> float | None:
    return float(roc_auc_score(labels, scores)) if len(np.unique(labels)) == 2 else None


def _table(report: dict[str, Any]) -> str:
    rows = [
        (
            form,
            "undefined" if report[form]["auc"] is None else f"{report[form]['auc']:.5f}",
            f"{report[form]['largest_score_difference']:.6f}",
            f"{report[form]['megabytes']:.0f}" if "megabytes" in report[form] else "",
        )
        for form in ("torch", *FORMS)
    ]
    header = ("Model", "AUC", "Largest score difference", "MB")
    return f"{report['rows']:,} comments of {report['labelled']}\n{markdown_table(header, rows)}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' talk of versions they were not tried with: what comes of them is compared afterwards."""
    verbosity, disabled = transformers_logging.get_verbosity(), logging.root.manager.disable
    transformers_logging.set_verbosity_error()
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        logging.disable(disabled)
