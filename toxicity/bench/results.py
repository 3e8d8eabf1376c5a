"""Repeated runs of one protocol, summarised for each machine and number of epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, median
from typing import Any

from toxicity.bench.runs import PHASES, REFERENCE
from toxicity.hardware.precision import precision_name


@dataclass(frozen=True)
class Result:
    """Summary of the runs with one protocol, machine and number of epochs."""

    label: str  # of the machine, with what tells it from others of the same label
    epochs: float
    runs: int  # number of runs that are summarised
    seconds: dict[str, float]  # median by phase; a tokenizer that only read its cache is left out
    rates: dict[str, float]  # medians of comments and FLOPs (on real tokens) per second, by the key of `benchmark.json`
    peak: float | None  # FLOP/s of all devices together, None if unknown
    peak_source: str  # in words
    auc: float | None  # mean of the runs, of the main label if there are several; None if undefined
    auc_error: float | None  # standard error of the AUC, None if the number of toxic validation rows is unknown
    mean_auc: float | None = None  # over several labels, mean of the runs; None if undefined, or with one label
    labels: int = 1  # number of labels

    @property
    def name(self) -> str:
        """Machine, epochs and number of runs, as a sentence starts with them."""
        median_of = f", median of {self.runs} runs" if self.runs > 1 else ""
        return f"{self.label}, {counted(self.epochs, 'epoch')}{median_of}"


def results_of(rows: Sequence[Mapping[str, Any]]) -> list[Result]:
    """Summarise the rows of one protocol: one result per machine and number of epochs, in the order of the rows.

    Rows with the same label are of different machines if their device, its count, the precision or the sampling
    strategy differ; their labels then say what differs.
    """
    together: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        together.setdefault((row["machine"]["label"], row["protocol"]["epochs"], _details(row)), []).append(row)
    details_of: dict[str, set[tuple[str, ...]]] = {}
    for label, _, details in together:
        details_of.setdefault(label, set()).add(details)
    results = []
    for (label, epochs, details), group in together.items():
        # A detail that all machines of a label share is not shown.
        of_all = zip(*details_of[label], strict=True)
        differing = [detail for detail, seen in zip(details, of_all, strict=True) if detail and len(set(seen)) > 1]
        results.append(_result(f"{label} ({', '.join(differing)})" if differing else label, epochs, group))
    return results


def _details(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Details that distinguish machines of one label, in words; empty strings where the row has none."""
    machine, protocol = row["machine"], row["protocol"]
    cores = f"{machine['cpu_count']} cores" if "cpu_count" in machine and not machine.get("compute_capability") else ""
    return (
        str(machine.get("device_name") or ""),
        cores,
        counted(machine["device_count"], "device"),
        precision_name(protocol.get("mixed_precision") or ""),
        str(protocol.get("train_sampling_strategy") or ""),
    )


def hanley_mcneil_error(auc: float, positives: int, negatives: int) -> float:
    """Standard error of a ROC AUC from the numbers of rows alone, without the scores.

    The formula of Hanley and McNeil 1982, "The meaning and use of the area under a receiver operating characteristic
    (ROC) curve", Radiology 143, assumes that the scores of each class are exponentially distributed.
    There must be a row of each class.
    """
    two_positives = auc / (2.0 - auc)
    two_negatives = 2.0 * auc * auc / (1.0 + auc)
    variance = (
        auc * (1.0 - auc)
        + (positives - 1) * (two_positives - auc * auc)
        + (negatives - 1) * (two_negatives - auc * auc)
    ) / (positives * negatives)
    return sqrt(max(variance, 0.0))


def counted(number: float, noun: str) -> str:
    """A number with its noun: `1 epoch`, `2 epochs`."""
    return f"{number:g} {noun}" if number == 1 else f"{number:g} {noun}s"


def _result(label: str, epochs: float, rows: Sequence[Mapping[str, Any]]) -> Result:
    seconds, rates = {}, {}
    for phase in PHASES:
        timed = [row for row in rows if phase != "tokenizer" or not row["timing"]["tokenizer_cache_hit"]]
        if timed:
            seconds[phase] = median(row["timing"][f"{phase}_seconds"] for row in timed)
        for rate in (f"{phase}_rows_per_second", f"{phase}_flops_per_second"):
            known = [row["throughput"][rate] for row in timed if row["throughput"].get(rate)]
            if known:
                rates[rate] = median(known)
    machine, protocol = rows[0]["machine"], rows[0]["protocol"]
    peaks = (row["machine"].get("matmul_flops_per_second") for row in rows)
    measured = [peak for peak in peaks if peak]
    peak = median(measured) if measured else machine.get("data_sheet_flops_per_second")
    aucs = [row["metrics"]["auc"] for row in rows if row["metrics"]["auc"] is not None]
    auc = fmean(aucs) if aucs else None
    published = "data_sheet_flops_per_second" in machine
    assumed = REFERENCE["assumed"]["validation_positives"] if published else 0
    positives = protocol.get("validation_positives") or assumed
    negatives = protocol["validation_rows"] - positives
    labels = rows[0]["metrics"].get("labels") or {}
    if len(labels) > 1:
        # Nobody may have said of all rows whether they have the main one.
        main = next(iter(labels.values()))
        positives, negatives = main["positives"], main["rows"] - main["positives"]
    means = [row["metrics"]["mean_auc"] for row in rows if row["metrics"].get("mean_auc") is not None]
    return Result(
        label=label,
        epochs=epochs,
        runs=len(rows),
        seconds=seconds,
        rates=rates,
        peak=peak * machine["device_count"] if peak else None,
        peak_source="measured on matrix products" if measured else "of its data sheet",
        auc=auc,
        auc_error=hanley_mcneil_error(auc, positives, negatives) if auc and positives > 0 and negatives > 0 else None,
        mean_auc=fmean(means) if means else None,
        labels=max(1, len(labels)),
    )
