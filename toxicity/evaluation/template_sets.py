"""Bias by term on a template set: sentences of a few forms, toxic and civil ones, each with terms for many groups.

    python -m toxicity.probe --model runs/sample --templates madlibs.csv

The AUCs of subgroup, BPSN and BNSP are those of `evaluation.bias`. Pinned AUC and the equality differences are those of
Dixon et al. 2018, "Measuring and Mitigating Unintended Bias in Text Classification", who filled such templates first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from toxicity.core.errors import RequestError
from toxicity.core.markdown import UNDEFINED, code_cell, code_span, markdown_table
from toxicity.evaluation.bias import CELLS, bias_metrics
from toxicity.evaluation.hatecheck import more_rows
from toxicity.evaluation.identity_probe import (
    DECIMALS,
    DEFAULT_THRESHOLDS,
    percent,
    threshold_heading,
    threshold_text,
    usual_threshold,
)
from toxicity.evaluation.roc import MINIMUM_CLASS_ROWS, auc_of_counts, count_by_score, score_ranks

# What is looked for in sentences whose file has no column of terms: what people are called by groups of identity.
TERMS = (
    *("lesbian", "gay", "bisexual", "transgender", "trans", "queer", "lgbt", "lgbtq", "homosexual", "straight"),
    *("heterosexual", "male", "female", "nonbinary", "african", "african american", "black", "white", "european"),
    *("hispanic", "latino", "latina", "latinx", "mexican", "canadian", "american", "asian", "indian", "chinese"),
    *("japanese", "arab", "middle eastern", "christian", "muslim", "jewish", "jew", "buddhist", "hindu", "catholic"),
    *("protestant", "sikh", "taoist", "atheist", "old", "older", "young", "younger", "teenage", "millenial"),
    *("millennial", "middle aged", "elderly", "blind", "deaf", "paralyzed", "disabled", "immigrant", "refugee"),
)
# More different terms are texts or ids.
MOST_TERMS = 1_000
MOST_TERMS_SHOWN = 20


def named_terms(names: Sequence[str]) -> dict[str, np.ndarray]:
    """The rows of each term, bool `(rows,)`, where a column names the term of each row, `""` for none.

    Upper and lower case are the same.

    Raises:
        RequestError: if there is none, or so many different ones that they are no terms.
    """
    folded, rows = np.unique([name.casefold() for name in names], return_inverse=True)
    if len(folded) > MOST_TERMS:
        raise RequestError(
            f"the column of terms holds {len(folded):,} different ones, more than {MOST_TERMS:,}: name the term that "
            "each sentence was filled with there, or rename that column, and terms are looked for in the sentences."
        )
    found = {str(name): rows == number for number, name in enumerate(folded) if name}
    return _required(found, "the column of terms is empty: fill a column")


def terms_in(texts: Sequence[str]) -> dict[str, np.ndarray]:
    """The rows of each of `TERMS` that is found, bool `(rows,)`.

    A term is found as whole words, also with an s at its end, in upper or lower case, and in the longest form: "african
    american" is neither "african" nor "american". A sentence may have several.

    Raises:
        RequestError: if none is found.
    """
    longest_first = sorted(TERMS, key=len, reverse=True)
    pattern = re.compile(rf"\b({'|'.join(longest_first).replace(' ', '[ -]')})s?\b", re.IGNORECASE)
    rows: dict[str, list[int]] = {term: [] for term in TERMS}
    for row, text in enumerate(texts):
        for match in pattern.findall(text):
            rows[match.casefold().replace("-", " ")].append(row)
    every = np.arange(len(texts))
    found = {term: np.isin(every, where) for term, where in rows.items() if where}
    return _required(found, f"none of {len(TERMS)} known terms, such as {TERMS[0]}, is in any sentence: add a column")


def _required(terms: dict[str, np.ndarray], otherwise: str) -> dict[str, np.ndarray]:
    if not terms:
        raise RequestError(f"{otherwise} `term` with the term that each sentence was filled with.")
    return terms


def template_metrics(
    scores: np.ndarray, toxic: np.ndarray, terms: Mapping[str, np.ndarray], thresholds: Mapping[str, float]
) -> dict[str, Any]:
    """How well toxic sentences are told from civil ones, over all and by term.

    Args:
        scores: finite scores from 0 to 1, float `(rows,)`.
        toxic: bool `(rows,)`, not all of them alike.
        terms: the rows that have each term, bool `(rows,)`.
        thresholds: scores from which on a text is flagged, by `Wanted.name`. If there are none, 0.5 is used, under the
            name `default`.

    Returns:
        A dictionary that `json.dumps` takes. `rows`, `toxic_rows` and `rows_without_term` (counts), `auc`,
        `thresholds`; `pinned_auc_equality_difference`, the sum over terms of |AUC − pinned AUC of the term|; by name of
        the threshold `false_positive_rate`, `false_negative_rate`, and `false_positive_equality_difference` and
        `false_negative_equality_difference`, the sums over terms of |rate − rate of the term|; `lowest_bpsn_auc`, the
        term with the lowest and that AUC, None if all are undefined; `terms`: name → `rows`, `toxic_rows`, the AUCs
        `subgroup_auc`, `bpsn_auc` and `bnsp_auc` (None where a class has fewer than `MINIMUM_CLASS_ROWS` rows),
        `pinned_auc`, and the two rates by threshold, None and no part of the sum where the term has no such row; and
        `undefined`, the reason for each AUC that is None by its path.
    """
    scores, ranks = np.asarray(scores, dtype=np.float64), score_ranks(scores)
    thresholds = {name: float(value) for name, value in (thresholds or DEFAULT_THRESHOLDS).items()}
    auc = auc_of_counts(*count_by_score(ranks, ~toxic))
    bias, undefined = bias_metrics(ranks, toxic, {name: rows.astype(float) for name, rows in terms.items()}, auc)
    overall = _rates(scores, toxic, thresholds)
    table = {
        name: {
            **found,
            "pinned_auc": _pinned_auc(ranks, toxic, terms[name]),
            **_rates(scores[terms[name]], toxic[terms[name]], thresholds),
        }
        for name, found in bias["identities"].items()
    }
    bpsn = {name: row["bpsn_auc"] for name, row in table.items() if row["bpsn_auc"] is not None}
    lowest = min(bpsn, key=bpsn.__getitem__, default=None)
    return {
        "rows": len(toxic),
        "toxic_rows": int(toxic.sum()),
        "rows_without_term": int((~np.logical_or.reduce([*terms.values()])).sum()),
        "auc": auc,
        "thresholds": thresholds,
        "pinned_auc_equality_difference": _sum_of_differences(auc, [row["pinned_auc"] for row in table.values()]),
        **overall,
        **{
            f"{kind}_equality_difference": {
                name: _sum_of_differences(share, [row[f"{kind}_rate"][name] for row in table.values()])
                for name, share in overall[f"{kind}_rate"].items()
            }
            for kind in ("false_positive", "false_negative")
        },
        "lowest_bpsn_auc": None if lowest is None else [lowest, bpsn[lowest]],
        "terms": table,
        "undefined": {
            path.replace("identities", "terms", 1): reason
            for path, reason in undefined.items()
            if path.startswith("identities.")
        },
    }


def _rates(scores: np.ndarray, toxic: np.ndarray, thresholds: Mapping[str, float]) -> dict[str, Any]:
    """The shares of civil rows flagged and of toxic rows not flagged, by threshold; None where there is no such row."""
    flagged = {name: scores >= threshold for name, threshold in thresholds.items()}
    return {
        "false_positive_rate": {name: _share(rows[~toxic]) for name, rows in flagged.items()},
        "false_negative_rate": {name: _share(~rows[toxic]) for name, rows in flagged.items()},
    }


def _share(rows: np.ndarray) -> float | None:
    return float(rows.mean()) if len(rows) else None


def _sum_of_differences(of_all: float, of_terms: Sequence[float | None]) -> float:
    return float(sum(abs(of_all - of_term) for of_term in of_terms if of_term is not None))


def _pinned_auc(ranks: np.ndarray, toxic: np.ndarray, rows: np.ndarray) -> float:
    """The AUC of the rows of a term together with as many rows drawn from all.

    Dixon et al. draw once. Here all rows are taken, those of the term and those of all with weights of the same sum,
    which is what the draws come to in the long run.
    """
    weights = rows.sum() + len(rows) * rows
    toxic_weights, civil_weights = (np.bincount(ranks, weights * of, int(ranks.max()) + 1) for of in (toxic, ~toxic))
    below = np.cumsum(civil_weights) - civil_weights / 2
    return float((toxic_weights * below).sum() / (toxic_weights.sum() * civil_weights.sum()))


def describe_templates(found: Mapping[str, Any]) -> str:
    """The result of `template_metrics` in Markdown: a summary, tables, the worst terms first, and what they mean."""
    thresholds, terms = found["thresholds"], found["terms"]
    usual = usual_threshold(thresholds)
    summary = (
        f"AUC {_number(found['auc'])} over {found['rows']:,} sentences, {found['toxic_rows']:,} of them toxic, "
        f"{found['rows_without_term']:,} with none of the {len(terms):,} terms. "
    )
    if found["lowest_bpsn_auc"]:
        term, lowest = found["lowest_bpsn_auc"]
        summary += f"The lowest BPSN AUC is {_number(lowest)}, of {code_span(term)}. "
    else:
        summary += "No term has a BPSN AUC; the JSON gives the reasons under `undefined`. "
    summary += f"The pinned AUC equality difference is {_number(found['pinned_auc_equality_difference'])}."
    keys = ("false_positive_rate", "false_negative_rate")
    sums = ("false_positive_equality_difference", "false_negative_equality_difference")
    of_thresholds = [
        (
            threshold_text(name, thresholds),
            *(percent(found[key][name]) for key in keys),
            *(_number(found[key][name]) for key in sums),
        )
        for name in thresholds
    ]

    def lowest_auc(name: str) -> tuple[bool, float]:
        defined = [terms[name][cell] for cell in CELLS if terms[name][cell] is not None]
        return not defined, min(defined, default=terms[name]["pinned_auc"])

    of_terms = [
        (
            code_cell(name),
            *(f"{terms[name][key]:,}" for key in ("rows", "toxic_rows")),
            *(_number(terms[name][key]) for key in (*CELLS, "pinned_auc")),
            *(UNDEFINED if terms[name][key][usual] is None else percent(terms[name][key][usual]) for key in keys),
        )
        for name in sorted(terms, key=lowest_auc)[:MOST_TERMS_SHOWN]
    ]
    header = ("Term", "Sentences", "Toxic", "Subgroup AUC", "BPSN AUC", "BNSP AUC", "Pinned AUC")
    header += tuple(threshold_heading(rate, usual) for rate in ("FPR", "FNR"))
    return "\n\n".join(
        [
            summary,
            markdown_table(("Threshold", "FPR", "FNR", "FPED", "FNED"), of_thresholds),
            markdown_table(header, of_terms) + more_rows(len(terms), MOST_TERMS_SHOWN),
            f"The terms with the lowest of the first three AUCs come first; {UNDEFINED}: fewer than "
            f"{MINIMUM_CLASS_ROWS} sentences of a class. BPSN: civil sentences with the term against toxic ones "
            "without it; BNSP: toxic ones with it against civil ones without. FPR: share of the civil sentences "
            "that is flagged; FNR: share of the toxic ones that is not. FPED, FNED: sums over all terms of the "
            "difference of their rate from that of all sentences. Pinned AUCs compare only terms that have the same "
            "share of toxic sentences.",
        ]
    )


def _number(value: float | None) -> str:
    return UNDEFINED if value is None else f"{value:.{DECIMALS}f}"
