"""How a model does on HateCheck, cases that each test one thing that a detector of hate should be able to do.

    python -m toxicity.probe --model runs/sample --hatecheck hatecheck.csv

Röttger et al. 2021, "HateCheck: Functional Tests for Hate Speech Detection Models"
(https://aclanthology.org/2021.acl-long.4). Their measure is the accuracy, by functionality and by target group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from toxicity.core.label_names import synonyms_of
from toxicity.core.markdown import UNDEFINED, code_cell, code_span, markdown_table
from toxicity.core.schema import NAMES
from toxicity.evaluation.identity_probe import (
    DEFAULT_THRESHOLDS,
    percent,
    threshold_heading,
    threshold_text,
    usual_threshold,
)

# Of a longer table the worst rows; HateCheck has 29 functionalities.
MOST_ROWS_SHOWN = 30


def hate_labels(names: Sequence[str]) -> list[str]:
    """Of the labels of a model, the main one first: that one, and those of attacks on an identity, which hate is."""
    main, *others = names
    return [main, *(name for name in others if synonyms_of(name) == NAMES["identity_attack"])]


def hatecheck(
    scores: Mapping[str, np.ndarray],
    thresholds: Mapping[str, Mapping[str, float]],
    hateful: np.ndarray,
    functionalities: Sequence[str],
    targets: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Accuracy over all cases, by functionality and by target group, at each threshold.

    Args:
        scores: for each label to judge by, the main one first, its scores from 0 to 1, float `(cases,)`.
        thresholds: for labels by name, scores from which on a text is flagged, by `Wanted.name`. For a label that has
            none it is 0.5, under the name `default`.
        hateful: what should be flagged, bool `(cases,)`.
        functionalities: the functionality that each case tests.
        targets: the group that each case is about, `""` for none.

    Returns:
        A dictionary that `json.dumps` takes: `thresholds`; for all cases `cases` and `hateful_cases` (counts), and by
        name of the threshold `accuracy`, `hateful_accuracy` (of the hateful cases alone, the recall) and
        `non_hateful_accuracy`, None where there are no such cases; `functionalities` and `targets`, with the same for
        each by name. That is for the main label; with several also `labels`, the same for each by name.
    """
    by = {"functionalities": _rows_by_name(functionalities), "targets": _rows_by_name(targets or ())}
    labels = {}
    for label, found in scores.items():
        fitted = {name: float(value) for name, value in (thresholds.get(label) or DEFAULT_THRESHOLDS).items()}
        right = {name: (np.asarray(found) >= value) == hateful for name, value in fitted.items()}
        labels[label] = {
            "thresholds": fitted,
            **_judged(right, hateful, np.arange(len(hateful))),
            **{
                key: {name: _judged(right, hateful, rows) for name, rows in groups.items()}
                for key, groups in by.items()
            },
        }
    main = next(iter(labels.values()))
    return main | {"labels": labels} if len(labels) > 1 else main


def _rows_by_name(names: Sequence[str]) -> dict[str, np.ndarray]:
    """The numbers of the rows of each name but the empty one, in the order in which the names come."""
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        rows.setdefault(name, []).append(row)
    rows.pop("", None)
    return {name: np.array(found) for name, found in rows.items()}


def _judged(right: Mapping[str, np.ndarray], hateful: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
    """Counts and accuracies of some cases; `right` says by name of the threshold which are told right."""
    kinds = {"": rows, "hateful_": rows[hateful[rows]], "non_hateful_": rows[~hateful[rows]]}
    return {
        "cases": len(rows),
        "hateful_cases": len(kinds["hateful_"]),
        **{
            f"{kind}accuracy": {name: float(told[of].mean()) if len(of) else None for name, told in right.items()}
            for kind, of in kinds.items()
        },
    }


def describe_hatecheck(result: Mapping[str, Any]) -> str:
    """The result of `hatecheck` in Markdown: tables, worst first, and what they mean; of several labels, one by one."""
    labels = result.get("labels", {})
    if not labels:
        return _description(result)
    return "\n\n".join(f"By the label {code_span(name)}:\n\n{_description(found)}" for name, found in labels.items())


def _description(found: Mapping[str, Any]) -> str:
    thresholds = found["thresholds"]
    accuracies = {"all": "accuracy", "hateful": "hateful_accuracy", "not hateful": "non_hateful_accuracy"}
    counts = (found["cases"], found["hateful_cases"], found["cases"] - found["hateful_cases"])
    headings = [threshold_heading("Right", name) for name in thresholds]
    overall = [
        (kind, f"{count:,}", *_shares(found[key]))
        for (kind, key), count in zip(accuracies.items(), counts, strict=True)
    ]
    parts = [markdown_table(("Cases", "Number", *headings), overall)]
    for key, heading in (("functionalities", "Functionality"), ("targets", "Target group")):
        if found[key]:
            parts.append(_table_of_groups(heading, found[key], headings, usual_threshold(thresholds)))
    meaning = ", ".join(threshold_text(name, thresholds) for name in thresholds)
    parts.append(
        f"Right: share of the cases that are flagged if they are hateful, and only then, at {meaning}. Some "
        "functionalities are of abuse that is about no protected group: it may be toxic, and is not hateful."
    )
    return "\n\n".join(parts)


def _table_of_groups(heading: str, groups: Mapping[str, Any], headings: Sequence[str], by: str) -> str:
    worst_first = sorted(groups, key=lambda name: groups[name]["accuracy"][by])
    counts = ("cases", "hateful_cases")
    rows = [
        (code_cell(name), *(f"{groups[name][count]:,}" for count in counts), *_shares(groups[name]["accuracy"]))
        for name in worst_first[:MOST_ROWS_SHOWN]
    ]
    table = markdown_table((heading, "Cases", "Hateful", *headings), rows)
    return table + more_rows(len(groups), MOST_ROWS_SHOWN)


def more_rows(rows: int, shown: int) -> str:
    """What stands below a table that shows the first rows alone; nothing if it shows all."""
    return f"\n\nThe worst {shown} of {rows:,}." if rows > shown else ""


def _shares(accuracies: Mapping[str, float | None]) -> tuple[str, ...]:
    return tuple(UNDEFINED if share is None else percent(share) for share in accuracies.values())
