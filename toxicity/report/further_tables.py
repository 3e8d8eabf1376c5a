"""Tables of what a model was judged on beside the validation comments as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from toxicity.core.markdown import UNDEFINED, Table
from toxicity.report.tables import interval, number, percent


def robustness_table(robustness: Mapping[str, Any]) -> Table:
    """AUC and share flagged of the same comments in other writing, from `evaluation.robustness`."""
    rows = [("as they are", "", number(robustness["auc"]), "", percent(robustness["flagged"]), "")]
    for name, found in robustness["rewritings"].items():
        auc, flagged = number(found["auc"]), percent(found["flagged"])
        changes = signed(found["auc_change"], 5), signed(100 * found["flagged_change"], 1)
        rows.append((name, f"{100 * found['rate']:.0f} %", auc, changes[0], flagged, f"{changes[1]} points"))
    return Table(("Written", "Words", "AUC", "Change", "Flagged", "Change of flagged"), rows)


def worst_rewriting(robustness: Mapping[str, Any]) -> tuple[str, str] | None:
    """The rewriting that takes most of the AUC, and its change as text; None where AUCs are undefined."""
    changes = {name: found["auc_change"] for name, found in robustness["rewritings"].items()}
    if None in changes.values():
        return None
    name = min(changes, key=changes.__getitem__)
    return name, signed(changes[name], 5)


def flagged_range(robustness: Mapping[str, Any]) -> str:
    """The smallest and the largest share flagged in other writing."""
    shares = [found["flagged"] for found in robustness["rewritings"].values()]
    return f"{percent(min(shares))} to {percent(max(shares))}"


def eval_files_table(files: Mapping[str, Mapping[str, Any]], show: Callable[[str], str]) -> Table:
    """How good the scores are on each further file; with several labels a row for each of them.

    Names of files and of labels are the user's: `show` makes each the text of a cell, in which nothing acts as markup.
    """
    several = any("labels" in found for found in files.values())
    rows = []
    for name, found in files.items():
        for label, section in (found.get("labels") or {"": found}).items():
            rows.append((show(name), *([show(label)] if several else []), *_cells(section)))
    scores = ("AUC", "95 % interval", "Average precision", "Log loss")
    at = ("Flagged", "Precision", "Recall")
    return Table(("File", *(["Label"] if several else []), "Rows", "Positive", *scores, *at), rows)


def signed(value: float | None, decimals: int) -> str:
    """A change with its sign, or `undefined`."""
    if value is None:
        return UNDEFINED
    # Rounded first, because −0.000001 would be formatted as −0.00000.
    rounded = round(value, decimals)
    return f"{rounded:+.{decimals}f}".replace("-", "−") if rounded else f"{0:.{decimals}f}"


def _cells(section: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        *(f"{section[count]:,}" for count in ("rows", "positives")),
        number(section["auc"]),
        interval(section["auc_interval"], 4),
        *(number(section[key], 4) for key in ("average_precision", "log_loss")),
        *(percent(section[key]) for key in ("flagged", "precision", "recall")),
    )
