"""Reads the `benchmark.json` of finished runs and the published runs, and groups them by protocol, without torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from toxicity.core.console import h_mm_ss, quoted
from toxicity.core.markdown import UNDEFINED, Table
from toxicity.core.run_folder import RunFolder
from toxicity.core.schema import LABEL
from toxicity.hardware.kinds import KINDS
from toxicity.models.flops import BERT_BASE

# Of benchmark.json: raised when a key is removed or changes its meaning, not when one is added.
SCHEMA_VERSION = 1

REFERENCE = json.loads(Path(__file__).with_name("reference_runs.json").read_text(encoding="utf-8"))
PHASES = ("tokenizer", "training", "inference")

# Runs are comparable if these agree; epochs and machines are what is compared.
PROTOCOL_KEYS = ("dataset", "model", "config_overrides", "train_rows", "validation_rows", "max_seq_length")


def published_rows() -> list[dict[str, Any]]:
    """The published runs in the form of `benchmark.json`, with the keys that are known.

    Rates are computed from the published times; FLOP/s also from the tokens per row that `reference_runs.json` assumes.
    """
    protocol, tokens_per_row = REFERENCE["protocol"], REFERENCE["assumed"]["tokens_per_row"]
    rows = []
    for run in REFERENCE["runs"]:
        seconds = {phase: _seconds(run[phase]) for phase in PHASES}
        trained, scored = protocol["train_rows"] * run["epochs"], protocol["validation_rows"]
        training_flops = BERT_BASE.training_flops(trained, trained * tokens_per_row)
        inference_flops = BERT_BASE.forward_flops(scored, scored * tokens_per_row)
        rows.append(
            {
                "schema_version": SCHEMA_VERSION,
                "machine": {
                    "label": f"{run['machine']} (published)",
                    "device_count": 1,
                    "data_sheet_flops_per_second": KINDS[run["machine"].lower()].peak_flops,
                },
                "protocol": {**protocol, "epochs": run["epochs"]},
                "timing": {**{f"{phase}_seconds": seconds[phase] for phase in PHASES}, "tokenizer_cache_hit": False},
                "throughput": {
                    "tokenizer_rows_per_second": (protocol["train_rows"] + scored) / seconds["tokenizer"],
                    "training_rows_per_second": trained / seconds["training"],
                    "inference_rows_per_second": scored / seconds["inference"],
                    "training_flops_per_second": training_flops / seconds["training"],
                    "inference_flops_per_second": inference_flops / seconds["inference"],
                },
                "metrics": {"auc": run["auc"]},
            }
        )
    return rows


def read_rows(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Read the benchmarks of all runs under `folder`.

    Returns:
        The rows in the order of their folders' names, and a warning for each file that was skipped because it is
        damaged or of another schema version.
    """
    rows, warnings = [], []
    for path in sorted(folder.glob(str(RunFolder("*").benchmark))):
        try:
            row = json.loads(path.read_text(encoding="utf-8"))
            if row["schema_version"] != SCHEMA_VERSION:
                warnings.append(f"skipped {path}: version {row['schema_version']}, not {SCHEMA_VERSION}; run it again.")
                continue
            _require_row(row)
            # Versions that did not list interruptions timed only the last part of a resumed run.
            if row["timing"].get("resumed") and not row["timing"].get("interruptions"):
                warnings.append(f"skipped {path}: it was resumed, and its times are those of the last part.")
                continue
            rows.append(row)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            warnings.append(f"skipped {path}: it is damaged ({type(error).__name__}: {error}).")
    return rows, warnings


def by_protocol(rows: Iterable[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Group rows by protocol, in the order in which the protocols first appear."""
    groups: list[list[dict[str, Any]]] = []
    for row in rows:
        for group in groups:
            if not any(differing_keys(row, other) for other in group):
                group.append(row)
                break
        else:
            groups.append([row])
    return groups


def protocol_title(rows: list[dict[str, Any]]) -> str:
    """Describe the protocol that rows share, on one line."""
    protocol = rows[0]["protocol"]
    optimiser = next((row["protocol"]["optimiser"] for row in rows if row["protocol"].get("optimiser")), {})
    settings = {name: optimiser[name] for name in ("batch_size", "learning_rate") if name in optimiser}
    settings |= protocol.get("options", {})
    labels = protocol.get("labels", ())
    several = (f"{len(labels)} labels, the main one {quoted(labels[0])}",) if len(labels) > 1 else ()
    sizes = (
        f"{protocol['model']} on {protocol['dataset']}: {protocol['train_rows']:,} comments to train",
        f"{protocol['validation_rows']:,} to validate",
        f"{protocol['max_seq_length']} tokens",
    )
    return ", ".join([*sizes, *several, *(f"{name.replace('_', ' ')} {value}" for name, value in settings.items())])


def differing_keys(row: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Names of the protocol's keys that both rows have and in which they differ; none if they are of one protocol."""
    facts, others = _facts(row["protocol"]), _facts(other["protocol"])
    return sorted(key for key in facts.keys() & others.keys() if facts[key] != others[key])


def _facts(protocol: Mapping[str, Any]) -> dict[str, Any]:
    facts = {key: protocol[key] for key in PROTOCOL_KEYS if key in protocol}
    if protocol.get("validation_positives") is not None:
        facts["validation_positives"] = protocol["validation_positives"]
    # `google-bert/bert-base-uncased` and `bert-base-uncased` are the same model.
    facts["model"] = protocol["model"].rsplit("/", 1)[-1]
    # Runs that do not say have one; its name is the user's choice. Of several, the first one is the main one.
    main, *others = protocol.get("labels") or [LABEL]
    facts["labels"] = (main, *sorted(others)) if others else ()
    return facts | protocol.get("optimiser", {}) | {"options": protocol.get("options", {})}


def _require_row(row: Mapping[str, Any]) -> None:
    """Raise KeyError or TypeError if a value that is read later is missing, of the wrong type, or zero as a divisor."""
    machine, protocol, timing, rates = (row[part] for part in ("machine", "protocol", "timing", "throughput"))
    positive = {f"{phase}_seconds": timing[f"{phase}_seconds"] for phase in PHASES}
    if timing["tokenizer_cache_hit"]:
        del positive["tokenizer_seconds"]
    positive |= {key: protocol[key] for key in ("epochs", "train_rows", "validation_rows", "max_seq_length")}
    positive["device_count"] = machine["device_count"]
    if not 0 <= timing["tokenizer_seconds"] < float("inf"):
        raise TypeError(f"tokenizer_seconds is {timing['tokenizer_seconds']!r}")
    if row["metrics"]["auc"] is not None and not 0 <= row["metrics"]["auc"] <= 1:
        raise TypeError(f"auc is {row['metrics']['auc']!r}")
    optional = {**rates, "auc": row["metrics"]["auc"], "peak": machine.get("matmul_flops_per_second")}
    optional["validation_positives"] = protocol.get("validation_positives")
    labels, sections = protocol.get("labels", []), row["metrics"].get("labels", {})
    if not isinstance(labels, list) or not all(isinstance(name, str) for name in labels):
        raise TypeError(f"labels are {labels!r}")
    if not isinstance(sections, dict):
        raise TypeError("the metrics of labels are no mapping")
    if len(sections) > 1:
        main = next(iter(sections.values()))
        optional |= {"rows": main["rows"], "positives": main["positives"]}
        optional |= {key: row["metrics"].get(key) for key in ("mean_auc", "mean_auc_labels")}
    for key, number in positive.items():
        if not isinstance(number, int | float) or not 0 < number < float("inf"):
            raise TypeError(f"{key} is {number!r}")
    for key, number in optional.items():
        if number is not None and (not isinstance(number, int | float) or not 0 <= number < float("inf")):
            raise TypeError(f"{key} is {number!r}")
    for text in (machine["label"], protocol["model"], protocol["dataset"]):
        if not isinstance(text, str) or not text.strip():
            raise TypeError(f"a name is {text!r}")
    if not isinstance(protocol.get("optimiser", {}), dict):
        raise TypeError("optimiser holds no settings")


def _seconds(h_mm_ss: str) -> int:
    hours, minutes, seconds = map(int, h_mm_ss.split(":"))
    return 3600 * hours + 60 * minutes + seconds


def benchmark_table(benchmarks: Sequence[Mapping[str, Any]]) -> Table:
    """Runs as a table with the columns of the published one, and one more where a run has several labels."""
    header = ("Machine", "Epochs", "Tokenizer Time", "Training Time", "Inference Time", "AUC Score")
    labels = [len(row["metrics"].get("labels") or {}) for row in benchmarks]
    some_have_several = max(labels, default=1) > 1
    rows = []
    for row, count in zip(benchmarks, labels, strict=True):
        tokenizer, training, inference = (h_mm_ss(row["timing"][f"{phase}_seconds"]) for phase in PHASES)
        cached = " (cached)" if row["timing"]["tokenizer_cache_hit"] else ""
        auc = UNDEFINED if row["metrics"]["auc"] is None else f"{row['metrics']['auc']:.5f}"
        machine, epochs = row["machine"]["label"], f"{row['protocol']['epochs']:g}"
        cells = (machine, epochs, tokenizer + cached, training, inference)
        if count > 1:
            rows.append((*cells, f"{auc} (main label)", mean_auc(row["metrics"])))
        else:
            rows.append((*cells, auc, *([""] if some_have_several else [])))
    return Table((*header, *(["Mean AUC"] if some_have_several else [])), rows)


def mean_auc(metrics: Mapping[str, Any]) -> str:
    """The mean AUC of several labels, with how many they are: `0.98432 over 6 of 7 labels`; or `undefined`."""
    mean = metrics.get("mean_auc")
    return UNDEFINED if mean is None else f"{mean:.5f} {over_labels(metrics)}"


def over_labels(metrics: Mapping[str, Any]) -> str:
    """What the mean AUC is over: `over 7 labels`, or `over 6 of 7 labels` where the others have no AUC."""
    labels = len(metrics["labels"])
    counted = metrics.get("mean_auc_labels", labels)
    return f"over {labels} labels" if counted == labels else f"over {counted} of {labels} labels"
