"""What runs of one protocol came to, machine by machine."""

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
    """What runs of one protocol, machine and number of epochs came to: median times and rates, mean AUC.

    `seconds` and `rates` (comments and FLOPs on real tokens, per second) are by phase, without what was not
    measured. `peak` is in FLOP/s, over all devices. `auc_error` is the standard error of the AUC.
    """

    label: str
    epochs: float
    runs: int
    seconds: dict[str, float]
    rates: dict[str, float]
    peak: float | None
    peak_source: str
    auc: float | None
    auc_error: float | None

    @property
    def name(self) -> str:
        """Machine and epochs, as sentences begin."""
        median_of = f", median of {self.runs} runs" if self.runs > 1 else ""
        return f"{self.label}, {epochs_text(self.epochs)}{median_of}"


def results_of(rows: Sequence[Mapping[str, Any]]) -> list[Result]:
    """Sum up rows of one protocol, one result for each machine and number of epochs, in the order of the rows.

    Rows of one label that are of different devices, counts of them, precision or sampling are different machines;
    their labels then say what differs.
    """
    together: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        together.setdefault((row["machine"]["label"], row["protocol"]["epochs"], _details(row)), []).append(row)
    details_of: dict[str, set[tuple[str, ...]]] = {}
    for label, _, details in together:
        details_of.setdefault(label, set()).add(details)
    results = []
    for (label, epochs, details), group in together.items():
        # What all machines of a label share tells nothing.
        differing = [
            detail for place, detail in enumerate(details) if len({d[place] for d in details_of[label]}) > 1 and detail
        ]
        results.append(_result(f"{label} ({', '.join(differing)})" if differing else label, epochs, group))
    return results


def _details(row: Mapping[str, Any]) -> tuple[str, ...]:
    """What tells machines of one label apart, in words, empty where a row does not tell."""
    machine, protocol = row["machine"], row["protocol"]
    cores = f"{machine['cpu_count']} cores" if "cpu_count" in machine and not machine.get("compute_capability") else ""
    return (
        str(machine.get("device_name") or ""),
        cores,
        f"{machine['device_count']} device{'s'[: machine['device_count'] != 1]}",
        precision_name(protocol.get("mixed_precision") or ""),
        str(protocol.get("train_sampling_strategy") or ""),
    )


def auc_standard_error(auc: float, positives: int, negatives: int) -> float:
    """Standard error of a ROC AUC for the draw of the scored rows.

    The formula is that of Hanley and McNeil 1982, "The meaning and use of the area under a receiver operating
    characteristic (ROC) curve", Radiology 143, which takes the scores of each class as exponentially distributed.

    Args:
        auc: 0 to 1.
        positives: rows of the one class, at least 1.
        negatives: rows of the other, at least 1.
    """
    two_positives = auc / (2.0 - auc)
    two_negatives = 2.0 * auc * auc / (1.0 + auc)
    variance = (
        auc * (1.0 - auc)
        + (positives - 1) * (two_positives - auc * auc)
        + (negatives - 1) * (two_negatives - auc * auc)
    ) / (positives * negatives)
    return sqrt(max(variance, 0.0))


def epochs_text(epochs: float) -> str:
    """`1 epoch`, `2 epochs`."""
    return f"{epochs:g} epoch{'s'[: epochs != 1]}"


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
    return Result(
        label=label,
        epochs=epochs,
        runs=len(rows),
        seconds=seconds,
        rates=rates,
        peak=peak * machine["device_count"] if peak else None,
        peak_source="measured on matrix products" if measured else "of its data sheet",
        auc=auc,
        auc_error=auc_standard_error(auc, positives, negatives) if auc and positives > 0 and negatives > 0 else None,
    )
