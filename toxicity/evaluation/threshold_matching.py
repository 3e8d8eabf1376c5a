"""Thresholds of another model that flag as many comments as those of the one before.

    python -m toxicity.match --old_scores comments.csv --model runs/sample

Scores of another model are distributed otherwise, so that a threshold such as 0.8 means something else. Nobody can say
which threshold of the new model flags the same comments, but which one flags as many; and, of comments with labels,
which one is right as often.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, floor
from typing import Any, NamedTuple

import numpy as np
from scipy.special import bdtr
from scipy.stats import spearmanr
from sklearn.metrics import cohen_kappa_score

from toxicity.core.markdown import code_cell, code_span, markdown_table
from toxicity.core.wanted import PRECISION, Wanted
from toxicity.evaluation.thresholds import CONFIDENCE, choose_threshold, precision_and_recall

# Of the comments that the old threshold flags, and of those it does not: with fewer, a share says little.
FEWEST_COMMENTS = 30
# Of a test, so that the interval has a confidence of 95 %.
ERROR = 0.05
# Below this rank correlation two models do not measure the same thing.
LOW_CORRELATION = 0.5
NONE = "–"


class Cut(NamedTuple):
    """A way to part comments by their scores: any threshold above `below` and up to `above` flags `flagged` of them."""

    below: float
    above: float
    flagged: int

    @property
    def threshold(self) -> float:
        """The one with the fewest digits, near the middle, so that what people copy parts the comments in this way."""
        midway = self.below + (self.above - self.below) / 2
        rounded = (round(midway, digits) for digits in range(1, 18))
        return next((value for value in rounded if self.below < value < self.above), self.above)


def match_thresholds(
    old: np.ndarray, new: np.ndarray, thresholds: Sequence[float], toxic: np.ndarray | None = None
) -> dict[str, Any]:
    """For each threshold of the old scores, the one that flags as many comments by the new scores.

    Comments are flagged from a threshold on. Those of equal scores are flagged together, so that the nearest number is
    taken. The 95 % interval has all thresholds that flag no other share, as far as the exact McNemar test can tell
    (McNemar 1947; a binomial test of the comments that one of both flags alone, so that it holds for any number).

    Args:
        old, new: scores of the same comments from 0 to 1, float `(comments,)`, at least one.
        thresholds: of the old scores.
        toxic: 1.0 for comments that are toxic, 0.0 for others, NaN where nobody said, float `(comments,)`.

    Returns:
        A dictionary that `json.dumps` takes: `comments` (a count); `spearman`, the rank correlation, None where all
        scores of one are equal; `thresholds`, by the old one as text (`"0.8"`). Each has `old_flagged` (a count) and
        `old_share`, and `reason`, why nothing more is told, or: `threshold`, `interval` (two numbers, or None if no
        threshold flags as many), `flagged`, `share`, `agreement` (counts of comments that `both`, `old_only`,
        `new_only` and `neither` flag, and Cohen's `kappa`), and with `toxic` also `precision` (see `_precisions`).
    """
    old, new = (np.asarray(scores, dtype=np.float64) for scores in (old, new))
    varied = min(np.ptp(old), np.ptp(new)) > 0
    return {
        "comments": len(old),
        "spearman": float(spearmanr(old, new).statistic) if varied else None,
        "thresholds": {f"{threshold:g}": _matched(old, new, threshold, toxic) for threshold in thresholds},
    }


def _matched(old: np.ndarray, new: np.ndarray, old_threshold: float, toxic: np.ndarray | None) -> dict[str, Any]:
    by_old = old >= old_threshold
    flagged = int(by_old.sum())
    found: dict[str, Any] = {"old_flagged": flagged, "old_share": flagged / len(old)}
    for count, which in ((flagged, "of at least"), (len(old) - flagged, "below")):
        if count < FEWEST_COMMENTS:
            reason = f"{count:,} comments have an old score {which} {old_threshold:g}, and {FEWEST_COMMENTS} are needed"
            return found | {"reason": reason}
    order = np.argsort(-new, kind="stable")
    descending = new[order]
    # The last of equal scores: up to there a threshold can flag.
    ends = np.flatnonzero(np.r_[descending[1:] != descending[:-1], True])
    both = np.cumsum(by_old[order])[ends]
    new_only, old_only = ends + 1 - both, flagged - both
    p_values = 2 * bdtr(np.minimum(new_only, old_only), new_only + old_only, 0.5)
    nearest = int(np.abs(new_only - old_only).argmin())
    cut = _cut(descending, ends, nearest)
    # Neighbours of each other: the further from equal counts, the lower the p-value.
    alike = np.flatnonzero(p_values > ERROR)
    interval = [_cut(descending, ends, alike[-1]).below, _cut(descending, ends, alike[0]).above] if len(alike) else None
    found |= {
        "threshold": cut.threshold,
        "interval": interval,
        "flagged": cut.flagged,
        "share": cut.flagged / len(new),
        "agreement": {
            "both": int(both[nearest]),
            "old_only": int(old_only[nearest]),
            "new_only": int(new_only[nearest]),
            "neither": len(new) - flagged - int(new_only[nearest]),
            "kappa": float(cohen_kappa_score(by_old, new >= cut.threshold)),
        },
    }
    if toxic is not None:
        found["precision"] = _precisions(old, new, toxic, old_threshold, cut.threshold)
    return found


def _cut(descending: np.ndarray, ends: np.ndarray, place: int) -> Cut:
    end = int(ends[place])
    return Cut(float(descending[end + 1]) if end + 1 < len(descending) else 0.0, float(descending[end]), end + 1)


def _precisions(
    old: np.ndarray, new: np.ndarray, toxic: np.ndarray, old_threshold: float, threshold: float
) -> dict[str, Any]:
    """Of the comments with labels, the precision of both thresholds, and the new threshold for that of the old one.

    Returns:
        `labelled` (a count), and `reason`, why nothing more is told, or: `old` and `new`, shares of the flagged
        comments that are toxic, and `same`, the lowest threshold that has the precision `old` with 90 % confidence (as
        `thresholds.choose_threshold`), with its `precision` and `share` (of the comments flagged) on these; or `reason`
        in there, why there is none.
    """
    known = ~np.isnan(toxic)
    old, new, toxic = old[known], new[known], toxic[known] > 0
    found: dict[str, Any] = {"labelled": len(toxic)}
    least = min(int((old >= old_threshold).sum()), int((new >= threshold).sum()))
    if least < FEWEST_COMMENTS:
        return found | {"reason": f"{least:,} flagged comments have a label, and {FEWEST_COMMENTS} are needed"}
    of_old, of_new = (
        precision_and_recall(*each)["precision"] for each in ((old, toxic, old_threshold), (new, toxic, threshold))
    )
    found |= {"old": of_old, "new": of_new}
    if of_old in (0.0, 1.0):
        share = "all" if of_old else "none"
        return found | {"same": {"reason": f"{share} of those with a label that the old threshold flags are toxic"}}
    chosen = choose_threshold(new, toxic, Wanted(PRECISION, of_old))
    if chosen.threshold is None:
        return found | {"same": {"reason": chosen.reason}}
    above, below = new[new >= chosen.threshold], new[new < chosen.threshold]
    same = Cut(float(below.max(initial=0.0)), float(above.min()), len(above)).threshold
    judged = precision_and_recall(new, toxic, same)
    return found | {"same": {"threshold": same, "precision": judged["precision"], "share": judged["flagged"]}}


def describe_matches(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Results of `match_thresholds` in Markdown: a table, what to heed, and what the columns mean.

    Args:
        results: by name of the attribute, each with its `label` besides.
    """
    rows, precisions, notes = [], [], []
    for name, result in results.items():
        notes.append(_about(name, result))
        for old, found in result["thresholds"].items():
            rows.append((code_cell(name), old, *_cells(found)))
            notes += [f"- {code_span(name)} from {old} on: {note}." for note in _remarks(found)]
            if "precision" in found:
                precisions.append((code_cell(name), old, *_precision_cells(found)))
    counted = ("Flagged by both", "By the old alone", "By the new alone", "Kappa")
    header = ("Attribute", "Old threshold", "Flags", "New threshold", "95 % interval", "Flags", *counted)
    parts = [markdown_table(header, rows)]
    if precisions:
        header = ("Old threshold", "Its precision", "New threshold", "Its precision", "For the old precision", "Flags")
        parts.append(markdown_table(("Attribute", *header), precisions))
        parts.append(
            f"For the old precision: the lowest new threshold that has it with {100 * CONFIDENCE:g} % confidence."
        )
    return "\n\n".join([*parts, "\n".join(notes)])


def _cells(found: Mapping[str, Any]) -> list[str]:
    cells = [_told_share(found["old_share"], found["old_flagged"])]
    if "threshold" not in found:
        return [*cells, *[NONE] * 7]
    agreement = found["agreement"]
    counts = [f"{agreement[name]:,}" for name in ("both", "old_only", "new_only")]
    interval = NONE
    if found["interval"]:
        low, high = found["interval"]
        # Outwards, so that it does not say more than was found.
        interval = f"{floor(1000 * low) / 1000:.3f} to {ceil(1000 * high) / 1000:.3f}"
    new = [f"{found['threshold']}", interval, _told_share(found["share"], found["flagged"])]
    return [*cells, *new, *counts, f"{agreement['kappa']:.2f}"]


def _precision_cells(found: Mapping[str, Any]) -> list[str]:
    precision, threshold = found["precision"], f"{found['threshold']}"
    if "reason" in precision:
        return [NONE, threshold, NONE, NONE, NONE]
    same = precision["same"]
    of_same = [NONE, NONE] if "reason" in same else [f"{same['threshold']}", _percent(same["share"])]
    return [_percent(precision["old"]), threshold, _percent(precision["new"]), *of_same]


def _about(name: str, result: Mapping[str, Any]) -> str:
    spearman, label = result["spearman"], code_span(result["label"])
    about = f"- {code_span(name)} is the label {label}; {result['comments']:,} comments have both scores."
    if spearman is None:
        return f"{about} All scores of one of both are equal, so that nothing can be said of their order."
    about += f" The rank correlation of both (Spearman) is {spearman:.2f}."
    if spearman >= LOW_CORRELATION:
        return about
    return (
        f"{about} That is low: the models order comments differently, so that a threshold that flags as many flags "
        "others. Look at some of those that one of both flags alone before you rely on it."
    )


def _remarks(found: Mapping[str, Any]) -> list[str]:
    if "reason" in found:
        return [f"{found['reason']}; give more comments"]
    remarks = []
    if found["interval"] is None:
        remarks.append(
            "too many comments have equal new scores for a threshold that flags as many; this is the nearest"
        )
    precision = found.get("precision", {})
    if reason := precision.get("reason"):
        remarks.append(f"precision is not told, as {reason}")
    elif reason := precision.get("same", {}).get("reason"):
        remarks.append(f"there is no threshold for the old precision: {reason}")
    return remarks


def _told_share(share: float, count: int) -> str:
    return f"{_percent(share)} ({count:,})"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
