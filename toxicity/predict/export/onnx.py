"""Export a trained model to ONNX, in fp32 and int8, and compare its scores with those of torch on labelled comments."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.metrics import roc_auc_score

from toxicity.core.arguments import DataArguments
from toxicity.core.errors import RequestError
from toxicity.core.files import folder_written_whole, write_text
from toxicity.core.markdown import UNDEFINED, markdown_table
from toxicity.core.schema import TARGET, TEXT, hard_labels
from toxicity.data.addresses import without_credentials
from toxicity.data.sources import labels_of, load_splits, read_file
from toxicity.models.labels import TOXIC_LABEL, labels_in
from toxicity.models.pretrained import load_classifier, load_config_and_tokenizer, load_errors_explained
from toxicity.predict.exported import exported_file
from toxicity.predict.ledger import writing_to
from toxicity.predict.scorer import Scorer

REPORT = "export.json"
FORMS = ("fp32", "int8")
EXPORT_PACKAGES = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime")
# The validation rows of recipes/sample.yaml.
SAMPLE = DataArguments(dataset_name="sample", max_train_samples=4000, max_eval_samples=2000)

logger = logging.getLogger(__name__)


def export_and_compare(
    model: str, revision: str, output: Path, labelled: DataArguments = SAMPLE, toxic_label: Sequence[str] = ()
) -> dict[str, Any]:
    """Export a model, score labelled comments with torch and with each export, and print and write a comparison.

    Args:
        model: folder of a run, or a model on the Hub.
        revision: branch, tag or commit on the Hub.
        output: folder in which `fp32/` and `int8/`, models that `Scorer` takes, and `export.json`, the comparison, are
            created or replaced; nothing in it changes before the comparison is complete.
        labelled: which comments: all rows of its `train_file`, else the validation rows of its dataset.
        toxic_label: as for `Scorer`; the exports keep it.

    Returns:
        The content of `export.json`: `rows`, `labelled`, `versions`, and for each of `torch`, `fp32` and `int8` the
        `auc` (None if the comments are all of one class), the `largest_score_difference` from torch in fp32, and for
        the exports their `megabytes`.

    Raises:
        RequestError: if packages are missing, the model or the comments cannot be read, or the folder cannot be
            written to.
    """
    if exported_file(model) is not None:
        raise RequestError(f"{model} is an export already: name the model that it was made of.")
    with ExitStack() as unfinished:
        with writing_to(output):
            folders = {form: unfinished.enter_context(folder_written_whole(output / form)) for form in FORMS}
        texts, labels = _labelled_comments(labelled)
        scores = {"torch": Scorer(model, revision, "cpu", "no", toxic_label, "torch")(texts)}
        export(model, revision, folders, toxic_label)
        scores |= {form: Scorer(str(folder))(texts) for form, folder in folders.items()}
        report = {
            "rows": len(texts),
            "labelled": without_credentials(labelled.train_file or labelled.dataset_name),
            "versions": {package: version(package) for package in EXPORT_PACKAGES},
            **{form: _measured(found, scores["torch"], labels) for form, found in scores.items()},
        }
        for form, folder in folders.items():
            report[form]["megabytes"] = sum(path.stat().st_size for path in folder.glob("*.onnx*")) / 1e6
        # Removed before the models are replaced, so that there never is a report about other models.
        (output / REPORT).unlink(missing_ok=True)
    write_text(output / REPORT, json.dumps(report, indent=1) + "\n")
    print(_table(report), flush=True)
    return report


def _measured(scores: np.ndarray, expected: np.ndarray, labels: np.ndarray) -> dict[str, float | None]:
    return {
        "auc": float(roc_auc_score(labels, scores)) if len(np.unique(labels)) == 2 else None,
        "largest_score_difference": float(np.abs(scores - expected).max()),
    }


def export(model: str, revision: str, folders: Mapping[str, Path], toxic_label: Sequence[str] = ()) -> None:
    """Write a model in `fp32`, in `int8`, or in both to the folder of that name, with its config and tokenizer.

    In int8, the weights of linear layers are quantised per channel ahead of time, and their inputs on the fly
    (`onnxruntime.quantization.quantize_dynamic`), so no comments are needed for calibration. The names of the toxic
    labels, if they are given, are kept in the config's section `toxicity`.

    Raises:
        RequestError: if packages are missing, the model cannot be read, or has no such labels.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
        from transformers.exporters import OnnxConfig, OnnxExporter, OnnxRuntimeDynamicConfig, OnnxRuntimeQuantizer
    except ImportError as error:
        if (error.name or "").startswith("torch."):
            raise RequestError(
                f"transformers cannot export with torch {version('torch')}: export the model where a later torch is "
                "installed. The export can be scored with this one."
            ) from error
        raise RequestError(f"{error.name} is not installed: pip install -r requirements-onnx.txt") from error
    with load_errors_explained(model):
        config, tokenizer = load_config_and_tokenizer(model, revision)
        if toxic_label:
            chosen = [str(config.id2label[index]) for index in labels_in(config, model, toxic_label).toxic]
            config.toxicity = (getattr(config, "toxicity", None) or {}) | {TOXIC_LABEL: chosen}
        classifier = load_classifier(model, revision, config, padding_free=False).eval()
    # The exported model has no other inputs, so whoever hands the tokenizer's result to it needs no more either.
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    tokenizer.init_kwargs["model_input_names"] = tokenizer.model_input_names  # those are what is saved
    # Two rows of several tokens: the exporter would take a size of 1 for a constant.
    encoded = tokenizer(["one comment", "and another that is longer"], padding=True, return_tensors="pt")
    inputs = {name: encoded[name] for name in tokenizer.model_input_names}
    # Not the embeddings: that would save no arithmetic, and change the scores more.
    linear_layers = OnnxRuntimeDynamicConfig(per_channel=True, op_types_to_quantize=["MatMul", "Gemm"])
    for form, folder in folders.items():
        logger.info(f"Exporting in {form}")
        quantizer = OnnxRuntimeQuantizer(linear_layers) if form == "int8" else None
        with _silenced():
            exported = OnnxExporter().export(classifier, inputs, config=OnnxConfig(dynamic=True, quantizer=quantizer))
        exported.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _labelled_comments(labelled: DataArguments) -> tuple[list[str], np.ndarray]:
    if labelled.train_file is None:
        validation = load_splits(labelled).validation
        return validation[TEXT][:], labels_of(validation)
    source = read_file(labelled.train_file, labelled, "--input")
    if source.bad_rows:
        raise RequestError(f"{source.first_bad_row()}. An export is measured on rows that are whole.")
    rows = source.table.select([TEXT, TARGET]).take(pa.array(source.scored_rows()))
    return rows[TEXT].to_pylist(), hard_labels(rows[TARGET].to_numpy())


def _table(report: dict[str, Any]) -> str:
    rows = []
    for form in ("torch", *FORMS):
        auc, difference, *megabytes = report[form].values()
        auc = UNDEFINED if auc is None else f"{auc:.5f}"
        rows.append((form, auc, f"{difference:.6f}", f"{megabytes[0]:.0f}" if megabytes else ""))
    header = ("Model", "AUC", "Largest score difference", "MB")
    return f"{report['rows']:,} comments of {report['labelled']}\n{markdown_table(header, rows)}"


@contextmanager
def _silenced() -> Iterator[None]:
    """Silence the exporters' warnings about package versions they were not tested with: the comparison tests them."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"), redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(disabled)
