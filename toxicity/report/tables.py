"""What a run measured, as the Markdown tables that its report and its card show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toxicity.core.markdown import UNDEFINED, markdown_table
from toxicity.core.schema import IDENTITIES

METRICS = {
    "average_precision": "Average precision",
    "log_loss": "Log loss",
    "brier_score": "Brier score",
    "expected_calibration_error": "Expected calibration error",
}
BIAS_AUCS = {"subgroup_auc": "Subgroup AUC", "bpsn_auc": "BPSN AUC", "bnsp_auc": "BNSP AUC"}


def metrics_table(metrics: Mapping[str, Any]) -> str:
    """The numbers of `metrics.ToxicityMetric`, without those of single identities."""
    low, high = metrics.get("auc_interval") or (None, None)
    rows = [
        ("ROC AUC", number(metrics.get("auc"))),
        ("ROC AUC, 95 % interval", UNDEFINED if low is None else f"{number(low)} to {number(high)}"),
    ]
    if metrics.get("bias"):
        rows.append((final_score_name(metrics["bias"]), number(metrics["bias"]["final_score"])))
    rows += [(name, number(metrics.get(key))) for key, name in METRICS.items()]
    subtypes = metrics.get("subtypes") or {}
    rows += [(f"ROC AUC of {name.replace('_', ' ')}", number(auc)) for name, auc in subtypes.items()]
    return markdown_table(("Metric", "Value"), rows)


def final_score_name(bias: Mapping[str, Any]) -> str:
    """What the final score may be called: that of the competition only where it is over all of its identities."""
    if bias["identities_counted"] == len(IDENTITIES):
        return "Final score of Jigsaw Unintended Bias"
    return f"Final score, over {bias['identities_counted']} of {len(IDENTITIES)} identities"


def bias_table(bias: Mapping[str, Any]) -> str:
    """AUCs of each identity and their power means, of `bias.bias_metrics`."""
    rows = [
        (
            name.replace("_", " "),
            f"{cells['rows']:,}",
            f"{cells['toxic_rows']:,}",
            *(number(cells[auc]) for auc in BIAS_AUCS),
        )
        for name, cells in bias["identities"].items()
    ]
    rows.append(("power mean", "", "", *(number(bias[auc]) for auc in BIAS_AUCS)))
    return markdown_table(("Identity", "Rows", "Toxic rows", *BIAS_AUCS.values()), rows)


def thresholds_table(calibration: Mapping[str, Any]) -> str:
    """Thresholds of `calibration.calibrate` on both scales, and what they gave on the held-out half."""
    rows = [
        (
            f"{row['precision_target']:g}",
            number(row["threshold"], 4),
            number(row["pipeline_threshold"], 4),
            *(percent(row[share]) for share in ("precision", "recall", "flagged")),
        )
        for row in calibration["thresholds"]
    ]
    header = ("Wanted precision", "Threshold", "For the pipeline", "Precision", "Recall", "Flagged")
    return markdown_table(header, rows)


def calibration_table(calibration: Mapping[str, Any]) -> str:
    """What the temperature did on the held-out half."""
    changes = calibration["held_out"]
    rows = [(METRICS[key], number(change["before"]), number(change["after"])) for key, change in changes.items()]
    return markdown_table(("Metric", "Before", "After"), rows)


def number(value: float | None, decimals: int = 5) -> str:
    """A measured number, or that there is none."""
    return UNDEFINED if value is None else f"{value:.{decimals}f}"


def percent(share: float | None) -> str:
    """A share, 0 to 1, in per cent, or that there is none."""
    return UNDEFINED if share is None else f"{100 * share:.1f} %"
