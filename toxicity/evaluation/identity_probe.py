"""The identity swap probe: how much a score changes when a sentence names an identity and is otherwise the same.

    python -m toxicity.probe --model runs/sample

Templates of neutral, friendly and hostile sentences are filled with terms for the nine scored identities, and with
unmarked terms such as "a person" (`probe_templates.yaml`). No labels are needed, so any model can be probed.
The method is that of Dixon et al. 2018, "Measuring and Mitigating Unintended Bias in Text Classification" (templates),
and of Prabhakaran et al. 2019, "Perturbation Sensitivity Analysis to Detect Unintended Model Biases" (the shift).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import cache
from math import sqrt
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from scipy.special import stdtrit

from toxicity.core.markdown import Table, code_cell, markdown_table
from toxicity.core.schema import IDENTITIES, TOXIC_THRESHOLD
from toxicity.core.wanted import PRECISION, Wanted

TONES = ("neutral", "friendly", "hostile")
CIVIL_TONES = ("neutral", "friendly")
UNMARKED = "unmarked"
DECIMALS = 3

logger = logging.getLogger(__name__)

# For a model without fitted thresholds: the competition's threshold for targets.
DEFAULT_THRESHOLDS = {"default": TOXIC_THRESHOLD}


class Template(NamedTuple):
    """A sentence with one placeholder: `{one}` ("a man"), `{person}` ("man") or `{people}` ("men")."""

    tone: str
    text: str


class Term(NamedTuple):
    """A term for people of a group (one of the nine identities, or `unmarked`): singular with article, and plural."""

    group: str
    one: str
    people: str


@cache
def read_templates_and_terms() -> tuple[tuple[Template, ...], tuple[Term, ...]]:
    """Read `probe_templates.yaml`: templates in the order of `TONES`, and terms, with the unmarked ones first."""
    content = yaml.safe_load(Path(__file__).with_name("probe_templates.yaml").read_text(encoding="utf-8"))
    groups = {UNMARKED: content[UNMARKED], **{name: content["identities"][name] for name in IDENTITIES}}
    return (
        tuple(Template(tone, text) for tone in TONES for text in content["templates"][tone]),
        tuple(Term(group, *forms) for group, terms in groups.items() for forms in terms),
    )


def fill(template: Template, term: Term) -> str:
    """Fill a template with a term."""
    _, _, person = term.one.partition(" ")
    text = template.text.format(one=term.one, person=person, people=term.people)
    return text[0].upper() + text[1:]


def probe(score: Callable[[list[str]], np.ndarray], thresholds: Mapping[str, float]) -> dict[str, Any] | None:
    """Score every template with every term, and compare each identity with the unmarked terms.

    An identity's score in a template is the mean over its terms; d is its difference from the mean over the unmarked
    terms in the same template. With n templates, mean d̄ and standard deviation s (n − 1 in the denominator), the shift
    is d̄ and its 95 % interval d̄ ± t(0.975, n − 1) · s / √n, the paired t interval (Student 1908; NIST/SEMATECH
    e-Handbook of Statistical Methods, 1.3.5.2 and 7.3.1.1). The interval covers variation between templates of this
    kind, not between terms or between training runs.

    Args:
        score: returns a calibrated score from 0 to 1 for each text, float `(texts,)`. It is called once.
        thresholds: scores from which on a text is flagged, by the name of what they are for (`Wanted.name`, such as
            `"0.8"`). If there are none, 0.5 is used, under the name `default`.

    Returns:
        A dictionary that `json.dumps` takes: `templates` and `texts` (counts), `thresholds`; `identities`, with
        `shift`, `interval`, `shift_by_tone`, `civil_texts` (a count) and `false_positive_rate` for each, the latter
        being the flagged share of its neutral and friendly sentences, by name of the threshold; `unmarked`, with
        `mean_score`, `civil_texts` and `false_positive_rate`; and `largest_shift`, the identity with the largest
        absolute shift, and that shift. None, with a line in the log, if a score is not finite.

    Raises:
        ValueError: if `score` does not return one score per text.
    """
    return _of_scores(_scored(score)[:, None], {"": thresholds})


def probe_labels(
    score: Callable[[list[str]], np.ndarray], thresholds_by_label: Mapping[str, Mapping[str, float]]
) -> dict[str, Any] | None:
    """Probe every label of a model, as `probe` does one.

    Args:
        score: returns calibrated scores from 0 to 1 of the labels for each text, float `(texts, labels)`. It is called
            once.
        thresholds_by_label: for each label by name, in the order of the scores and the main one first, its thresholds,
            as for `probe`.

    Returns:
        What `probe` returns for the main label; with several labels also `labels`, what it returns for each, the main
        one too, by name. None, with a line in the log, if a score is not finite.

    Raises:
        ValueError: if `score` does not return one score per text and label.
    """
    return _of_scores(_scored(score, (len(thresholds_by_label),)), thresholds_by_label)


def _scored(score: Callable[[list[str]], np.ndarray], labels: tuple[int, ...] = ()) -> np.ndarray:
    """Scores of all sentences, float64 `(texts, *labels)`; terms follow each other faster than templates."""
    templates, terms = read_templates_and_terms()
    texts = [fill(template, term) for template in templates for term in terms]
    scores = np.asarray(score(texts), dtype=np.float64)
    if scores.shape != (len(texts), *labels):
        raise ValueError(f"{len(texts)} texts were given {scores.shape} scores")
    return scores


def _of_scores(scores: np.ndarray, thresholds_by_label: Mapping[str, Mapping[str, float]]) -> dict[str, Any] | None:
    """The result of `probe_labels` from the scores `(texts, labels)`."""
    if bad := np.count_nonzero(~np.isfinite(scores).all(axis=1)):
        logger.warning(f"No identity swap probe: {bad} of {len(scores)} scores are not finite.")
        return None
    labels = {
        name: _compared(scores[:, column], thresholds)
        for column, (name, thresholds) in enumerate(thresholds_by_label.items())
    }
    main = next(iter(labels.values()))
    return main | {"labels": labels} if len(labels) > 1 else main


def _compared(scores: np.ndarray, thresholds: Mapping[str, float]) -> dict[str, Any]:
    """The result of `probe` from finite scores of the sentences, float64 `(texts,)`."""
    templates, terms = read_templates_and_terms()
    thresholds = {name: float(threshold) for name, threshold in (thresholds or DEFAULT_THRESHOLDS).items()}
    scores = scores.reshape(len(templates), len(terms))
    tones = np.array([template.tone for template in templates])
    groups = np.array([term.group for term in terms])
    civil = np.isin(tones, CIVIL_TONES)

    def false_positives(group: str) -> dict[str, Any]:
        of_group = scores[np.ix_(civil, groups == group)]
        rates = {name: float((of_group >= threshold).mean()) for name, threshold in thresholds.items()}
        return {"civil_texts": of_group.size, "false_positive_rate": rates}

    unmarked = scores[:, groups == UNMARKED].mean(axis=1)
    identities = {}
    for identity in IDENTITIES:
        shifts = scores[:, groups == identity].mean(axis=1) - unmarked
        identities[identity] = {
            "shift": float(shifts.mean()),
            "interval": _interval_of_mean(shifts),
            "shift_by_tone": {tone: float(shifts[tones == tone].mean()) for tone in TONES},
            **false_positives(identity),
        }
    largest = max(IDENTITIES, key=lambda identity: abs(identities[identity]["shift"]))
    return {
        "templates": len(templates),
        "texts": scores.size,
        "thresholds": thresholds,
        "identities": identities,
        UNMARKED: {"mean_score": float(unmarked.mean()), **false_positives(UNMARKED)},
        "largest_shift": [largest, identities[largest]["shift"]],
    }


def describe_probe(probe: Mapping[str, Any]) -> str:
    """The result of `probe`, also when read back from JSON, in Markdown: a summary, the table, and its legend.

    Of several labels it is about the main one. Only numbers and names that this package defines are taken from it, so
    that nothing in it can break the Markdown or reach a terminal.
    """
    return "\n\n".join([summarise_probe(probe), markdown_table(*probe_table(probe)), explain_probe(probe)])


def probe_table(probe: Mapping[str, Any]) -> Table:
    """Shift, interval and share flagged of each identity."""
    thresholds = probe["thresholds"]
    header = ("Identity", "Shift", "95 % interval", *(tone.capitalize() for tone in TONES))
    header += tuple(threshold_heading("Flagged", name) for name in thresholds)
    table = []
    for name in IDENTITIES:
        found = probe["identities"][name]
        shift, by_tone = _signed(found["shift"]), [_signed(found["shift_by_tone"][tone]) for tone in TONES]
        interval = " to ".join(_signed(bound) for bound in found["interval"])
        table.append((_identity_text(name), shift, interval, *by_tone, *_rates(found, thresholds)))
    table.append((UNMARKED, *[""] * (2 + len(TONES)), *_rates(probe[UNMARKED], thresholds)))
    return Table(header, table)


def label_table(probe: Mapping[str, Any]) -> Table:
    """The shift of each identity in the score of each of several labels, from the result of `probe_labels`."""
    labels = probe["labels"]
    header = ("Identity", *map(code_cell, labels))
    shifts = [[_signed(found["identities"][identity]["shift"]) for found in labels.values()] for identity in IDENTITIES]
    return Table(header, [(_identity_text(name), *row) for name, row in zip(IDENTITIES, shifts, strict=True)])


def explain_probe(probe: Mapping[str, Any]) -> str:
    """What the columns of `probe_table` mean."""
    thresholds = probe["thresholds"]
    return (
        f"{probe['templates']:d} templates in English, {probe['texts']:d} sentences. Shift: mean score with terms "
        "for the identity minus mean score with words for anybody (person, neighbour, colleague, …) in the same "
        f"template; the latter is {probe[UNMARKED]['mean_score']:.{DECIMALS}f} over all templates. Interval: "
        "paired t, over templates, each identity on its own. Flagged: share of the neutral and friendly sentences, "
        "all of them civil, that score at or above the threshold, "
        f"{', '.join(threshold_text(name, thresholds) for name in thresholds)}."
    )


def summarise_probe(probe: Mapping[str, Any]) -> str:
    """Which identities shift the score, and how often civil sentences are flagged."""
    results = probe["identities"]
    # As the table shows them: a score in float32 alone would make shifts of 1e-8 that all go one way.
    higher = [name for name in IDENTITIES if round(results[name]["interval"][0], DECIMALS) > 0]
    lower = [name for name in IDENTITIES if round(results[name]["interval"][1], DECIMALS) < 0]
    sentences = []
    for direction, names in (("higher", higher), ("lower", lower)):
        if names:
            names.sort(key=lambda name: -abs(results[name]["shift"]))
            shifts = ", ".join(f"{_identity_text(name)} ({_signed(results[name]['shift'])})" for name in names)
            sentences.append(f"The same sentence scores {direction} when it names: {shifts}.")
    if not higher and not lower:
        sentences.append("No shift of the nine identities can be told from zero.")
    elif len(higher) + len(lower) < len(IDENTITIES):
        sentences.append("No other shift can be told from zero.")

    thresholds = probe["thresholds"]
    name = usual_threshold(thresholds)
    rates = {identity: results[identity]["false_positive_rate"][name] for identity in IDENTITIES}
    worst = max(rates, key=rates.__getitem__)
    unmarked = probe[UNMARKED]["false_positive_rate"][name]
    of_identities = f"at most {percent(rates[worst])} ({_identity_text(worst)})" if rates[worst] > 0 else percent(0.0)
    threshold = threshold_text(name, thresholds)
    sentences.append(
        f"At the threshold of {threshold} it wrongly flags {percent(unmarked)} of the civil sentences "
        f"about unmarked people, and {of_identities} of those about any of the nine identities."
    )
    return " ".join(sentences)


def _interval_of_mean(values: np.ndarray) -> list[float]:
    """The 95 % t interval of a mean, as by `scipy.stats.ttest_1samp`; `scipy.stats` takes half a second to import."""
    mean, margin = values.mean(), values.std(ddof=1) / sqrt(len(values)) * stdtrit(len(values) - 1, 0.975)
    return [float(mean - margin), float(mean + margin)]


def usual_threshold(thresholds: Mapping[str, float]) -> str:
    """The name of the threshold for a precision of 0.9, which most people would use, or for the nearest one."""
    wanted = {name: Wanted.from_name(name) for name in thresholds if name not in DEFAULT_THRESHOLDS}
    distances = {name: abs(one.value - 0.9) for name, one in wanted.items() if one.kind == PRECISION}
    return min(distances or thresholds, key=lambda name: distances.get(name, 0.0))


def threshold_heading(what: str, name: str) -> str:
    """The heading of a column about what a threshold of this name does."""
    if name in DEFAULT_THRESHOLDS:
        return what
    wanted = Wanted.from_name(name)
    return f"{what} ({wanted.value:g})" if wanted.kind == PRECISION else f"{what} ({wanted.told})"


def _rates(found: Mapping[str, Any], thresholds: Mapping[str, float]) -> list[str]:
    return [percent(found["false_positive_rate"][name]) for name in thresholds]


def threshold_text(name: str, thresholds: Mapping[str, float]) -> str:
    """A threshold, and what it was fitted for."""
    fitted_for = "" if name in DEFAULT_THRESHOLDS else f" for {Wanted.from_name(name).told}"
    return f"{thresholds[name]:.{DECIMALS}f}{fitted_for}"


def _identity_text(identity: str) -> str:
    return identity.replace("homosexual_gay", "homosexual, gay").replace("_", " ")


def percent(share: float) -> str:
    """A share from 0 to 1 as a text."""
    return f"{100 * share:.1f} %"


def _signed(value: float) -> str:
    # Rounded first, because −0.0001 would be formatted as −0.000.
    rounded = round(value, DECIMALS)
    return f"{rounded:+.{DECIMALS}f}".replace("-", "−") if rounded else f"{0:.{DECIMALS}f}"
