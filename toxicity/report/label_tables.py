"""Tables of a run of several labels, a row for each, as the report and the model card show them.

In all functions `labels` are those of `several_labels`. Names of labels are the user's: `show` makes each of them the
text of a cell, in which nothing acts as markup.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

from toxicity.core.markdown import UNDEFINED, Table
from toxicity.core.schema import IDENTITIES
from toxicity.core.wanted import PRECISION, Wanted
from toxicity.evaluation.calibration import PRECISION_TARGETS, Calibration
from toxicity.evaluation.calibration_maps import TEMPERATURE
from toxicity.evaluation.identity_probe import probe_table
from toxicity.report.tables import BIAS_AUCS, interval, number, percent, told_target

Labels = Mapping[str, Mapping[str, Any]]


def several_labels(metrics: Mapping[str, Any]) -> Labels:
    """`metrics.labels` of a benchmark, the main label first, where there are several; otherwise none."""
    labels = metrics.get("labels") or {}
    return labels if len(labels) > 1 else {}


def labels_table(labels: Labels, show: Callable[[str], str]) -> Table:
    """How well each label is told. Precision and recall are those of its threshold."""
    rows = []
    for name, section in labels.items():
        calibration = Calibration.from_benchmark(section.get("calibration"))
        measured = calibration.measured or {}
        by_target = {row.get("precision_target"): row for row in measured.get("thresholds", [])}
        at = by_target.get(calibration.precision_target) if calibration.precision_target else None
        rows.append(
            (
                show(name),
                *(f"{section[count]:,}" for count in ("rows", "positives")),
                number(section.get("auc")),
                interval(section.get("auc_interval"), 4),
                *(
                    number(section.get(key), 4)
                    for key in ("average_precision", "log_loss", "expected_calibration_error")
                ),
                _method(measured),
                number(calibration.threshold, 4),
                *(percent((at or {}).get(share)) for share in ("precision", "recall")),
            )
        )
    scores = ("AUC", "95 % interval", "Average precision", "Log loss", "Calibration error")
    fitted = ("Calibration", "Threshold", "Precision", "Recall")
    return Table(("Label", "Rows", "Positive", *scores, *fitted), rows)


def thresholds_by_label(labels: Labels, show: Callable[[str], str]) -> Table:
    """The thresholds of each label for the scores of `toxicity.predict`, with their recall."""
    of_labels = []
    for section in labels.values():
        found = {told_target(row): row for row in (section.get("calibration") or {}).get("thresholds", [])}
        of_labels.append(found)
    wanted = dict.fromkeys((*(Wanted(PRECISION, target).told for target in PRECISION_TARGETS), *chain(*of_labels)))
    rows = [
        (show(name), *(_threshold(found.get(one, {})) for one in wanted))
        for name, found in zip(labels, of_labels, strict=True)
    ]
    return Table(("Label", *(one.capitalize() for one in wanted)), rows)


def bias_by_label(labels: Labels, show: Callable[[str], str]) -> Table:
    """Final score and power means of each label for which they were measured."""
    rows = []
    for name, section in labels.items():
        if bias := section.get("bias"):
            means = (number(bias[key]) for key in ("final_score", *BIAS_AUCS))
            rows.append((show(name), *means, _identities(bias)))
    return Table(("Label", "Final score", *BIAS_AUCS.values(), "Identities counted"), rows)


def probe_by_label(probes: Mapping[str, Mapping[str, Any] | None], show: Callable[[str], str]) -> Table:
    """The largest shift of each label, from `probe.labels` of a benchmark, with the identity that it is of."""
    rows = []
    for name, probe in probes.items():
        cells = (UNDEFINED, UNDEFINED, UNDEFINED)
        if probe:
            cells = probe_table(probe).rows[IDENTITIES.index(probe["largest_shift"][0])][:3]
        rows.append((show(name), *cells))
    return Table(("Label", "Largest shift for", "Shift", "95 % interval"), rows)


def biased(labels: Labels) -> bool:
    """Whether bias was measured for one of the labels."""
    return any(section.get("bias") for section in labels.values())


def reasons_by_label(labels: Labels) -> list[tuple[str, str, str]]:
    """Label, measurements and reason, for what is not defined of the labels but the main one, biases left out."""
    found = []
    for name, section in list(labels.items())[1:]:
        by_reason: dict[str, list[str]] = {}
        for path, reason in (section.get("undefined") or {}).items():
            if not path.startswith("bias."):
                by_reason.setdefault(reason, []).append(path)
        found += [(name, ", ".join(paths), reason) for reason, paths in by_reason.items()]
    return found


def _identities(bias: Mapping[str, Any]) -> str:
    return f"{bias['identities_counted']} of {len(IDENTITIES)}"


def _method(measured: Mapping[str, Any]) -> str:
    """How the label is calibrated, with its temperature where that is how."""
    method = measured.get("method", TEMPERATURE if measured else UNDEFINED)
    return f"{method} {number(measured['temperature'], 3)}" if method == TEMPERATURE else method


def _threshold(row: Mapping[str, Any]) -> str:
    if row.get("threshold") is None:
        return UNDEFINED
    return number(row["threshold"], 4) + (f" ({percent(row['recall'])})" if row["recall"] is not None else "")
