"""Tables of a run's measurements, as the report and the model card show them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toxicity.core.markdown import UNDEFINED, Table
from toxicity.core.schema import IDENTITIES
from toxicity.core.wanted import Wanted
from toxicity.evaluation.calibration import name_of_row

METRICS = {
    "average_precision": "Average precision",
    "log_loss": "Log loss",
    "brier_score": "Brier score",
    "expected_calibration_error": "Expected calibration error",
}
BIAS_AUCS = {"subgroup_auc": "Subgroup AUC", "bpsn_auc": "BPSN AUC", "bnsp_auc": "BNSP AUC"}

# What the methods of calibration are called.
METHOD_NAMES = {
    "temperature": "temperature scaling",
    "platt": "Platt scaling",
    "beta": "beta calibration",
    "isotonic": "isotonic regression",
}


def metrics_table(metrics: Mapping[str, Any]) -> Table:
    """The metrics over all validation comments, without those of single identities."""
    rows = [("ROC AUC", number(metrics.get("auc"))), ("ROC AUC, 95 % interval", interval(metrics.get("auc_interval")))]
    if metrics.get("bias"):
        rows.append((final_score_name(metrics["bias"]), number(metrics["bias"]["final_score"])))
    rows += [(name, number(metrics.get(key))) for key, name in METRICS.items()]
    return Table(("Metric", "Value"), rows)


def final_score_name(bias: Mapping[str, Any]) -> str:
    """Name of the final score: that of the competition only where it is over all nine identities."""
    if bias["identities_counted"] == len(IDENTITIES):
        return "Final score of Jigsaw Unintended Bias"
    return f"Final score, over {bias['identities_counted']} of {len(IDENTITIES)} identities"


def bias_table(bias: Mapping[str, Any]) -> Table:
    """AUCs of each identity and their power means, from `evaluation.bias.bias_metrics`."""
    rows = []
    for name, cells in bias["identities"].items():
        aucs = (number(cells[auc]) for auc in BIAS_AUCS)
        rows.append((name.replace("_", " "), f"{cells['rows']:,}", f"{cells['toxic_rows']:,}", *aucs))
    rows.append(("power mean", "", "", *(number(bias[auc]) for auc in BIAS_AUCS)))
    return Table(("Identity", "Rows", "Toxic rows", *BIAS_AUCS.values()), rows)


def thresholds_table(calibration: Mapping[str, Any]) -> Table:
    """Thresholds of `calibration.calibrate` on both scales, and what they do to the comments they were judged on."""
    rows = []
    for row in calibration["thresholds"]:
        thresholds = (number(row[scale], 4) for scale in ("threshold", "pipeline_threshold"))
        shares = (percent(row[share]) for share in ("precision", "recall", "flagged"))
        rows.append((told_target(row), *thresholds, *shares))
    return Table(("Wanted", "Threshold", "For the pipeline", "Precision", "Recall", "Flagged"), rows)


def calibration_table(calibration: Mapping[str, Any]) -> Table:
    """Metrics before and after calibration, of comments that it was not fitted to."""
    changes = calibration["cross_validated"]
    rows = [(METRICS[key], number(change["before"]), number(change["after"])) for key, change in changes.items()]
    return Table(("Metric", "Before", "After"), rows)


def candidates_table(calibration: Mapping[str, Any]) -> Table:
    """How the methods of calibration compare, by cross-validation."""
    rows = []
    for name, found in calibration["candidates"].items():
        cells = (found.get("reason", number(found.get("log_loss"))), "", "")
        if "gain" in found:
            cells = (number(found["log_loss"]), f"{found['gain']:+.5f}", number(found["standard_error"]))
        rows.append((METHOD_NAMES[name], *cells))
    return Table(("Method", "Log loss", "Gain", "Standard error"), rows)


def share_of_the_way(calibration: Mapping[str, Any]) -> float:
    """How far the scores are moved to what was fitted, 0 to 1, as `calibration_maps.choose_map` has it."""
    chosen = calibration["candidates"][calibration["method"]]
    return 1 - (chosen["standard_error"] / chosen["gain"]) ** 2


def told_target(row: Mapping[str, Any]) -> str:
    """What a threshold of `calibration.calibrate` is for."""
    return Wanted.from_name(name_of_row(row)).told


def number(value: float | None, decimals: int = 5) -> str:
    """A measured number, or `undefined`."""
    return UNDEFINED if value is None else f"{value:.{decimals}f}"


def interval(bounds: tuple[float, float] | None, decimals: int = 5) -> str:
    """A confidence interval, `0.98498 to 0.99291`, or `undefined`."""
    return UNDEFINED if bounds is None else " to ".join(number(bound, decimals) for bound in bounds)


def percent(share: float | None) -> str:
    """A share from 0 to 1 as a percentage, or `undefined`."""
    return UNDEFINED if share is None else f"{100 * share:.1f} %"
