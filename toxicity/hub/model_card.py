"""The model card of a run, README.md, rendered from the template `model_card.md.jinja` beside this module."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from toxicity.bench.runs import benchmark_table, mean_auc, over_labels
from toxicity.core.console import printable
from toxicity.core.files import write_text
from toxicity.core.markdown import UNDEFINED, Table, code_cell, collapse_blank_lines, markdown_table
from toxicity.core.run_folder import RunFolder
from toxicity.core.schema import IDENTITIES, LABEL
from toxicity.evaluation.calibration import Calibration
from toxicity.evaluation.identity_probe import describe_probe
from toxicity.evaluation.trained_terms import explain_trained_terms
from toxicity.hub.redact import is_hub_id, public_benchmark, public_name
from toxicity.report import further_tables, label_tables, tables
from toxicity.report.figures import FIGURES
from toxicity.report.page import calibration_sentences

TEMPLATE = Path(__file__).with_name("model_card.md.jinja")

# Licences of base models, as their cards on the Hub state them.
LICENSES = {
    "google-bert/bert-base-uncased": "apache-2.0",
    "google-bert/bert-base-cased": "apache-2.0",
    "google-bert/bert-large-uncased": "apache-2.0",
    "distilbert/distilbert-base-uncased": "apache-2.0",
    "google/electra-base-discriminator": "apache-2.0",
    "sentence-transformers/all-MiniLM-L6-v2": "apache-2.0",
    "FacebookAI/roberta-base": "mit",
    "microsoft/deberta-v3-base": "mit",
}
# The Hub's own value for it.
UNKNOWN_LICENSE = "unknown"

# Known datasets by --dataset_name: their title, and the licence of their text.
DATASETS = {
    "sample": (
        "Wikipedia talk comments (Jigsaw, 2018) and tweets (Davidson et al., 2017)",
        "Of the data, the Wikipedia comments are under CC BY-SA 3.0; the tweets are their authors'.",
    ),
    "google/civil_comments": ("Civil Comments", "The comments of the data are under CC0."),
}


def write_card(
    output_dir: str | Path,
    benchmark: Mapping[str, Any],
    repo: str | None = None,
    dataset_name: str | None = None,
    dataset_revision: str | None = None,
) -> None:
    """Write `README.md`, with the metadata that the Hub reads. It shows no comment of the data and no local path.

    Call it after the pictures are drawn: it shows those that it finds in `report/`.

    Args:
        output_dir: folder of the run.
        benchmark: content of `report/benchmark.json`. `metrics.auc`, `metrics.bias`, `calibration` and `probe` may be
            None or missing, and any number in them None.
        repo: name on the Hub. Without one the example loads the folder, until publishing names the repo.
        dataset_name: value of `--dataset_name`; None where the data came from files.
        dataset_revision: value of `--dataset_revision`.
    """
    run = RunFolder(output_dir)
    base_model = benchmark["protocol"]["model"] if is_hub_id(benchmark["protocol"]["model"]) else None
    benchmark = public_benchmark(benchmark)
    protocol, calibration = benchmark["protocol"], benchmark.get("calibration")
    name = (repo or run.default_repo).rsplit("/", 1)[-1]
    labels = label_tables.several_labels(benchmark["metrics"])
    title, terms = DATASETS.get(dataset_name or "", (public_name(protocol["dataset"]), ""))
    metadata = _metadata(benchmark["metrics"], name, base_model, title, dataset_name, dataset_revision)

    def figure(file: str) -> str:
        path = run.report / file
        return f"![{FIGURES[file].title}]({path.relative_to(run.path).as_posix()})" if path.is_file() else ""

    card = ModelCard.from_template(
        metadata,
        str(TEMPLATE),
        name=name,
        repo=repo or (name if run.path.is_absolute() else run.path.as_posix()),
        protocol=protocol,
        metrics=benchmark["metrics"],
        calibration=calibration,
        label=(protocol.get("labels") or [LABEL])[0],
        labels=labels,
        label_literal=_literal,
        probe=benchmark.get("probe"),
        robustness=benchmark.get("robustness"),
        eval_files=benchmark.get("eval_files") or {},
        copies=benchmark.get("counterfactuals"),
        pipeline_threshold=_pipeline_threshold(calibration),
        pipeline_thresholds={
            _literal(name): _pipeline_threshold(section.get("calibration")) for name, section in labels.items()
        },
        run_table=benchmark_table([benchmark]),
        settings_table=_settings_table(protocol, benchmark["machine"]),
        dataset_title=title,
        dataset_terms=terms,
        license_id=_license(base_model),
        UNKNOWN_LICENSE=UNKNOWN_LICENSE,
        figure=figure,
        table=lambda table: markdown_table(*table),
        count="{:,}".format,
        code=_code,
        plain=_plain,
        cell=code_cell,
        mean_auc=mean_auc,
        tables=tables,
        label_tables=label_tables,
        further_tables=further_tables,
        describe_probe=describe_probe,
        explain_trained_terms=explain_trained_terms,
        say=calibration_sentences(benchmark, _code),
        UNDEFINED=UNDEFINED,
    )
    write_text(run.card, collapse_blank_lines(str(card)))


def _metadata(
    metrics: Mapping[str, Any],
    name: str,
    base_model: str | None,
    dataset_title: str,
    dataset_name: str | None,
    dataset_revision: str | None,
) -> ModelCardData:
    on_hub = dataset_name if dataset_name and dataset_name != "sample" and is_hub_id(dataset_name) else None
    data = {
        "task_type": "text-classification",
        "task_name": "Toxicity",
        # The Hub requires a type, also of data that are not on it.
        "dataset_type": on_hub or "custom",
        "dataset_name": dataset_title,
        "dataset_split": "validation",
        "dataset_revision": dataset_revision if on_hub else None,
    }
    labels = label_tables.several_labels(metrics)
    values = [("roc_auc", "ROC AUC", metrics.get("auc"))]
    if labels:
        values = [
            *(("roc_auc", f"ROC AUC, {printable(name)}", section.get("auc")) for name, section in labels.items()),
            ("roc_auc", f"Mean ROC AUC {over_labels(metrics)}", metrics.get("mean_auc")),
        ]
    bias = metrics.get("bias")
    if bias and bias["identities_counted"] == len(IDENTITIES):
        # Over fewer identities it is not comparable with published ones.
        values.append(("final_score", tables.final_score_name(bias), bias["final_score"]))
    results = [
        EvalResult(**data, metric_type=kind, metric_name=title, metric_value=value)
        for kind, title, value in values
        if value is not None
    ]
    return ModelCardData(
        language="en",
        license=_license(base_model),
        library_name="transformers",
        pipeline_tag="text-classification",
        tags=["toxicity", "content-moderation", "bias", *(["multi-label-classification"] if labels else [])],
        base_model=base_model,
        datasets=[on_hub] if on_hub else None,
        metrics=["roc_auc"],
        model_name=name if results else None,
        eval_results=results or None,
    )


def _settings_table(protocol: Mapping[str, Any], machine: Mapping[str, Any]) -> Table:
    chosen = (protocol.get("optimiser") or {}) | (protocol.get("options") or {})
    settings = {
        "Recipe": protocol.get("recipe"),
        "Model to start from": protocol.get("model"),
        "Changes to its config": protocol.get("config_overrides"),
        "Comments to train on": f"{protocol['train_rows']:,}",
        "Epochs": f"{protocol['epochs']:g}",
        "Tokens a comment at most": protocol.get("max_seq_length"),
        "Mixed precision": protocol.get("mixed_precision"),
        "Seed": protocol.get("seed"),
        **{name.replace("_", " ").capitalize(): value for name, value in chosen.items()},
        "Machine": machine.get("device_name") or machine.get("label"),
    }
    texts = {name: f"{value:g}" if isinstance(value, float) else value for name, value in settings.items()}
    return Table(("Setting", "Value"), [(name, _code(text)) for name, text in texts.items() if text is not None])


def _pipeline_threshold(calibration: dict[str, Any] | None) -> str:
    return f"{Calibration.from_benchmark(calibration).pipeline_threshold:.6g}"


def _literal(name: str) -> str:
    """The name of a label as Python's source has it, on one line and in ASCII."""
    return json.dumps(name) if name.isascii() else ascii(name)


def _license(base_model: str | None) -> str:
    # The Hub finds these models with and without their owner.
    known = LICENSES | {name.rsplit("/", 1)[-1]: license_id for name, license_id in LICENSES.items()}
    return known.get(base_model or "", UNKNOWN_LICENSE)


def _plain(text: Any) -> str:
    """Untrusted text on one line, with the characters escaped that are markup in Markdown or HTML."""
    line = "".join(character if character.isprintable() else " " for character in str(text))
    return "".join(f"\\{character}" if character in r"\`*_[]<>|#~!" else character for character in line)


def _code(text: Any) -> str:
    """Untrusted text as a code span that also works in a cell of a table: backticks and bars are replaced."""
    line = "".join(character if character.isprintable() else " " for character in str(text))
    return f"`{line.replace('`', chr(39)).replace('|', '¦').strip() or ' '}`"
