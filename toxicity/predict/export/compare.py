"""Export a trained model to another runtime, and compare its scores with those of torch on labelled comments."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import logit
from sklearn.metrics import roc_auc_score

from toxicity.core.arguments import DataArguments
from toxicity.core.console import printable, quoted
from toxicity.core.errors import RequestError
from toxicity.core.files import folder_written_whole, write_text
from toxicity.core.markdown import UNDEFINED, markdown_table
from toxicity.data.token_dataset import TokenRows
from toxicity.evaluation.calibration_maps import fit_temperature
from toxicity.evaluation.calibration_metrics import log_loss
from toxicity.evaluation.thresholds import precision_and_recall
from toxicity.models.labels import TOXIC_LABEL, labels_in
from toxicity.models.packing import Layout, fill_batches, longest_first
from toxicity.models.pretrained import load_classifier, load_config_and_tokenizer, load_errors_explained
from toxicity.predict.columns import label_called
from toxicity.predict.converted import converted
from toxicity.predict.export import onnx, openvino
from toxicity.predict.export.comments import SAMPLE, Comments, read_comments
from toxicity.predict.export.conversion import INPUTS
from toxicity.predict.exported import exported_file
from toxicity.predict.ledger import writing_to
from toxicity.predict.scorer import Scorer

REPORT = "export.json"
EXPORTS = {"onnx": onnx, "openvino": openvino}

# Of a batch of comments that int8 is checked on, with padding. Each one calibrates by itself, for the median over them.
TOKENS_PER_BATCH = 2_048
# From which difference of scores on a warning says so: twice the usual largest one, and the usual average.
FAR, FAR_ON_AVERAGE = 0.08, 0.005

logger = logging.getLogger(__name__)


def export_and_compare(
    model: str,
    revision: str,
    output: Path,
    labelled: DataArguments = SAMPLE,
    toxic_label: Sequence[str] = (),
    runtime: str = "onnx",
) -> dict[str, Any]:
    """Export a model, score labelled comments with torch and with each export, and print and write a comparison.

    Args:
        model: folder of a run, or a model on the Hub.
        revision: branch, tag or commit on the Hub.
        output: folder in which `fp32/` and, for OpenVINO, `int8/`, models that `Scorer` takes, and `export.json`, the
            comparison, are created or replaced; nothing in it changes before the comparison is complete.
        labelled: which comments to measure and to calibrate on (see `read_comments`).
        toxic_label: as for `Scorer`; the exports keep it.
        runtime: `onnx` or `openvino`.

    Returns:
        The content of `export.json`: `rows`, `labelled`, `versions`, for int8 `calibrated_on`, `calibrating_comments`
        and `floating_point_layers`, and for each of `torch`, `fp32` and `int8` what `_measured` says, and for the
        exports their `megabytes`. Of a model with several labels all that is about the main one, except `labels`.

    Raises:
        RequestError: if packages are missing, the model or the comments cannot be read, the model cannot be converted,
            or the folder cannot be written to.
    """
    if exported_file(model) is not None:
        raise RequestError(f"{model} is an export already: name the model that it was made of.")
    exporter = EXPORTS[runtime]
    exporter.require_packages()
    with ExitStack() as unfinished:
        with writing_to(output):
            folders = {form: unfinished.enter_context(folder_written_whole(output / form)) for form in exporter.FORMS}
        comments = read_comments(labelled, model, calibrate="int8" in folders)
        torch_scorer = Scorer(model, revision, "cpu", "no", toxic_label, runtime="torch")
        _check_labels(torch_scorer, comments, labelled)
        report = {
            "rows": len(comments.texts),
            "labelled": comments.name,
            "versions": {package: version(package) for package in exporter.PACKAGES},
        }
        expected, report["torch"] = _measured(torch_scorer, comments)
        report |= write_exports(model, revision, folders, torch_scorer, comments, runtime, toxic_label)
        for form, folder in folders.items():
            _, report[form] = _measured(Scorer(str(folder)), comments, expected)
            weights = [path for path in folder.iterdir() if ".onnx" in path.name or path.suffix in (".xml", ".bin")]
            report[form]["megabytes"] = sum(path.stat().st_size for path in weights) / 1e6
            for name, found in report[form].get("labels", {"": report[form]}).items():
                mean, largest = (found[f"{which}_score_difference"] for which in ("mean", "largest"))
                if mean > FAR_ON_AVERAGE or largest > FAR:
                    scores = f"Scores of {quoted(name)} in {form}" if name else f"Scores of {form}"
                    logger.warning(f"{scores} are up to {largest:.3f} from those of torch, on average {mean:.4f}.")
            labelled_rows = int((~np.isnan(comments.labels)).sum())
            _warn(form, report[form]["thresholds"], report["torch"]["thresholds"], labelled_rows)
        # Removed before the models are replaced, so that there never is a report about other models.
        (output / REPORT).unlink(missing_ok=True)
    write_text(output / REPORT, json.dumps(report, indent=1) + "\n")
    print(_table(report), flush=True)
    return report


def write_exports(
    model: str,
    revision: str,
    folders: dict[str, Path],
    scorer: Scorer,
    comments: Comments,
    runtime: str,
    toxic_label: Sequence[str] = (),
) -> dict[str, Any]:
    """Write the exports with their config and tokenizer to their folders; returns what int8 was calibrated on.

    The names of the toxic labels, if they are given, are kept in the config's section `toxicity`.
    """
    with load_errors_explained(model):
        config, tokenizer = load_config_and_tokenizer(model, revision)
        if toxic_label:
            chosen = [str(config.id2label[index]) for index in labels_in(config, model, toxic_label).toxic]
            # Of several labels, the calibration of the chosen one becomes that of the model.
            calibration = scorer.calibration.to_config() if len(scorer.calibrations) > 1 else {}
            config.toxicity = (getattr(config, "toxicity", None) or {}) | calibration | {TOXIC_LABEL: chosen}
        classifier = load_classifier(model, revision, config, padding_free=False).eval()
    told = {}
    logger.info(f"Exporting to {runtime}: {' and '.join(folders)}")
    if runtime == "onnx":
        onnx.export(classifier, tokenizer, folders)
    else:
        program = converted(classifier, tokenizer, scorer.weights_digest, scorer.max_seq_length)
        third = len(comments.calibrating) // 3
        parts = [
            _inputs(scorer, tokenizer.pad_token_id, texts, tokens)
            for texts, tokens in ((comments.calibrating[:third], 1), (comments.calibrating[third:], TOKENS_PER_BATCH))
        ]
        labels = len(scorer.calibrations)
        layers = openvino.export(program, folders, *parts, lambda found: scorer.probabilities_of(found)[:, :labels])
        told = {
            "calibrated_on": comments.calibrated_on,
            "calibrating_comments": len(comments.calibrating),
            "floating_point_layers": layers,
        }
    # An export has no other inputs, so whoever hands the tokenizer's result to it needs no more either.
    tokenizer.model_input_names = list(INPUTS)
    tokenizer.init_kwargs["model_input_names"] = tokenizer.model_input_names  # those are what is saved
    for folder in folders.values():
        config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return told


def _inputs(scorer: Scorer, pad_token_id: int, texts: list[str], tokens: int) -> list[dict[str, np.ndarray]]:
    """Batches of texts of similar length, of at most so many tokens or one text each."""
    rows = TokenRows(scorer.tokenize(texts))
    order = longest_first(rows.lengths)
    batches = []
    for part in fill_batches(rows.lengths[order], tokens, padded=True):
        inputs = Layout(False, pad_token_id)(rows.tokens_of(order[part]))
        ids = inputs["input_ids"].numpy()
        mask = inputs.get("attention_mask")
        batches.append(dict(zip(INPUTS, (ids, np.ones_like(ids) if mask is None else mask.numpy()), strict=True)))
    return batches


def _check_labels(scorer: Scorer, comments: Comments, labelled: DataArguments) -> None:
    """Refuse columns of labels of which the first is not that of the main one; log which labels have none."""
    names, (first, *_) = list(scorer.calibrations), labelled.label_column_names or ("",)
    if label_called(first, names) not in (0, None):
        raise RequestError(f"name the main label of the model, {quoted(names[0])}, first in --label_column_names.")
    if lacking := [quoted(name) for name in names[1:] if label_called(name, list(comments.other_labels)) is None]:
        logger.info(
            f"{comments.name} is not known to have labels of {', '.join(lacking)}, so that these get no AUC: name the "
            "columns with --label_column_names."
        )


def _measured(
    scorer: Scorer, comments: Comments, expected: np.ndarray | None = None
) -> tuple[np.ndarray, dict[str, Any]]:
    """Scores of the comments, float64 `(rows, labels)`, and what is told of them.

    That is what `_compared` says of the main label; `rows_per_second` from tokens to scores, in `mixed_precision`; for
    the main label `log_loss` at its temperature, and the `best_temperature` with its `best_log_loss`, and for each of
    its `thresholds` the precision, recall and share of flagged comments; and for each of several labels `labels`, what
    `_compared` says. `expected` are the scores of torch in fp32.
    """
    tokens, calibrations = scorer.tokenize(comments.texts), scorer.calibrations
    seconds = []
    for _ in range(2):  # the first time, kernels are made
        start = time.perf_counter()
        probabilities = scorer.probabilities(tokens)[:, : len(calibrations)]
        seconds.append(time.perf_counter() - start)
    names = list(comments.other_labels)
    places = [label_called(name, names) for name in calibrations]
    truth = [None if place is None else comments.other_labels[names[place]] for place in places]
    before = probabilities if expected is None else expected
    labels = {
        name: _compared(*columns, calibration.threshold)
        for (name, calibration), *columns in zip(
            calibrations.items(), probabilities.T, before.T, [comments.labels, *truth[1:]], strict=True
        )
    }
    known = ~np.isnan(comments.labels)
    scores, toxic = probabilities[known, 0], comments.labels[known] > 0
    both = 0 < toxic.sum() < len(toxic)
    scaled = logit(np.clip(scores, 1e-15, 1 - 1e-15))
    best = fit_temperature(scaled, toxic) if both else None
    thresholds = {"default": scorer.threshold, **next(iter(calibrations.values())).precision_thresholds}
    return probabilities, {
        **next(iter(labels.values())),
        "mixed_precision": scorer.mixed_precision,
        "rows_per_second": len(probabilities) / min(seconds),
        "log_loss": log_loss(scaled, toxic) if both else None,
        "best_temperature": best and best * scorer.temperature,
        "best_log_loss": best and log_loss(scaled / best, toxic),
        "thresholds": {
            target: precision_and_recall(scores, toxic, threshold)
            for target, threshold in (thresholds if toxic.any() else {}).items()
        },
        **({"labels": labels} if len(labels) > 1 else {}),
    }


def _compared(scores: np.ndarray, expected: np.ndarray, truth: np.ndarray | None, threshold: float) -> dict[str, Any]:
    """What is told of a label's scores, float `(rows,)`.

    That is the `auc`, None if the comments are all of one class, or not labelled (NaN); the `largest_score_difference`
    and the `mean_score_difference` from `expected`; and `changed_labels`, the share of comments that are labelled
    otherwise than by those.
    """
    known = np.zeros(len(scores), dtype=bool) if truth is None else ~np.isnan(truth)
    there = np.zeros(0, dtype=bool) if truth is None else truth[known] > 0
    differences = np.abs(scores - expected)
    return {
        "auc": float(roc_auc_score(there, scores[known])) if 0 < there.sum() < len(there) else None,
        "largest_score_difference": float(differences.max()),
        "mean_score_difference": float(differences.mean()),
        "changed_labels": float(((scores >= threshold) != (expected >= threshold)).mean()),
    }


def _warn(form: str, thresholds: dict[str, Any], in_torch: dict[str, Any], rows: int) -> None:
    """Warn of a threshold that misses its precision by more than in torch, and than one standard error."""
    for target, found in thresholds.items():
        before, after = in_torch[target]["precision"], found["precision"]
        if target == "default" or before is None or after is None:
            continue
        noise = np.sqrt(after * (1 - after) / (found["flagged"] * rows))
        if after < min(float(target), before) - noise:
            logger.warning(
                f"In {form}, the threshold for a precision of {target} reaches {after:.3f} on these comments, and "
                f"{before:.3f} in torch."
            )


def _table(report: dict[str, Any]) -> str:
    forms = ("torch", *(form for form in ("fp32", "int8") if form in report))
    rows, of_labels = [], []
    for form in forms:
        found = report[form]
        megabytes = f"{found['megabytes']:.0f}" if "megabytes" in found else ""
        rows.append((form, *_cells(found), f"{found['rows_per_second']:.0f}", megabytes))
        of_labels += [(form, printable(name, 60), *_cells(cells)) for name, cells in found.get("labels", {}).items()]
    header = ("AUC", "Mean score difference", "Largest score difference", "Changed labels")
    told = f"{report['rows']:,} comments of {report['labelled']}\n"
    told += markdown_table(("Model", *header, "Rows/s", "MB"), rows)
    return f"{told}\n\n{markdown_table(('Model', 'Label', *header), of_labels)}" if of_labels else told


def _cells(found: dict[str, Any]) -> tuple[str, ...]:
    return (
        UNDEFINED if found["auc"] is None else f"{found['auc']:.5f}",
        f"{found['mean_score_difference']:.6f}",
        f"{found['largest_score_difference']:.6f}",
        f"{found['changed_labels']:.2%}",
    )
