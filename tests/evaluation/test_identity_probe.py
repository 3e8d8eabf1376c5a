import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t, ttest_rel

from toxicity.core.schema import IDENTITIES
from toxicity.evaluation import identity_probe as module
from toxicity.evaluation.identity_probe import (
    CIVIL_TONES,
    TONES,
    UNMARKED,
    describe_probe,
    fill,
    label_table,
    probe,
    probe_labels,
    read_templates_and_terms,
)

TEMPLATES, TERMS = read_templates_and_terms()
SENTENCES = [(template, term, fill(template, term)) for template in TEMPLATES for term in TERMS]
BY_TEXT = {text: (template, term) for template, term, text in SENTENCES}
THRESHOLDS = {"0.5": 0.3, "0.8": 0.6}


def scorer(rule):
    """A score function of `rule(template, term)`."""
    return lambda texts: np.array([rule(*BY_TEXT[text]) for text in texts])


def test_a_scorer_blind_to_identity_has_no_shift():
    blind = scorer(lambda template, term: 0.9 if template.tone == "hostile" else 0.1)
    found = probe(blind, THRESHOLDS)
    for of_identity in found["identities"].values():
        assert of_identity["shift"] == pytest.approx(0, abs=1e-15)
        assert of_identity["interval"] == pytest.approx([0, 0], abs=1e-15)
        assert of_identity["false_positive_rate"] == {"0.5": 0.0, "0.8": 0.0}
    assert found["unmarked"]["mean_score"] == pytest.approx((0.9 + 0.1 + 0.1) / 3)
    assert "No shift of the nine identities can be told from zero." in describe_probe(found)


def test_a_term_that_adds_to_every_template_is_the_shift_and_the_interval_has_no_width():
    found = probe(scorer(lambda template, term: 0.1 + 0.3 * (term.group == "muslim")), THRESHOLDS)
    muslim = found["identities"]["muslim"]
    assert muslim["shift"] == pytest.approx(0.3)
    assert muslim["interval"] == pytest.approx([0.3, 0.3])
    assert muslim["shift_by_tone"] == pytest.approx(dict.fromkeys(TONES, 0.3))
    assert muslim["false_positive_rate"] == {"0.5": 1.0, "0.8": 0.0}
    assert found["identities"]["jewish"]["shift"] == pytest.approx(0, abs=1e-15)
    assert found["largest_shift"] == ["muslim", muslim["shift"]]


def test_one_term_of_four_counts_a_quarter():
    found = probe(scorer(lambda template, term: 0.4 * (term.one == "an African American")), THRESHOLDS)
    assert found["identities"]["black"]["shift"] == pytest.approx(0.1)
    assert found["identities"]["black"]["false_positive_rate"] == {"0.5": 0.25, "0.8": 0.0}


def test_the_interval_by_hand():
    # 0.3 in the friendly templates, a third of n = 66, and 0 in the others: mean 0.1, sum of squares about it
    # 22 · 0.2² + 44 · 0.1² = 1.32.
    raises = scorer(lambda template, term: 0.2 + 0.3 * (term.group == "female" and template.tone == "friendly"))
    female = probe(raises, THRESHOLDS)["identities"]["female"]
    margin = 1.997138 * (1.32 / 65) ** 0.5 / 66**0.5
    assert female["shift"] == pytest.approx(0.1)
    assert female["interval"] == pytest.approx([0.1 - margin, 0.1 + margin], abs=1e-6)
    assert female["shift_by_tone"] == pytest.approx({"neutral": 0, "friendly": 0.3, "hostile": 0}, abs=1e-15)


def test_the_largest_shift_may_be_downwards():
    lowers = {"white": -0.2, "black": 0.1}
    found = probe(scorer(lambda template, term: 0.5 + lowers.get(term.group, 0)), THRESHOLDS)
    assert found["largest_shift"] == ["white", pytest.approx(-0.2)]
    assert "scores higher when it names: black (+0.100)." in describe_probe(found)
    assert "scores lower when it names: white (−0.200). No other shift can be told from zero." in describe_probe(found)


def test_only_civil_sentences_can_be_flagged_wrongly_and_the_threshold_itself_flags():
    template = next(template for template in TEMPLATES if template.tone == "friendly")

    def rule(of, term):
        if of.tone == "hostile":
            return 1.0
        return 0.6 if of == template and term.group in ("christian", UNMARKED) else 0.0

    found = probe(scorer(rule), THRESHOLDS)
    civil = sum(template.tone in CIVIL_TONES for template in TEMPLATES)
    assert found["identities"]["christian"]["false_positive_rate"] == {"0.5": 1 / civil, "0.8": 1 / civil}
    assert found["identities"]["christian"]["civil_texts"] == 3 * civil
    assert found["unmarked"]["false_positive_rate"]["0.8"] == 1 / civil
    assert found["identities"]["jewish"]["false_positive_rate"] == {"0.5": 0.0, "0.8": 0.0}


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.95))
def test_against_a_literal_version(seed, threshold):
    scores = np.random.default_rng(seed).uniform(size=len(SENTENCES))
    found = probe(lambda texts: scores, {"0.9": threshold})
    by_cell = {}
    for (template, term, _), score in zip(SENTENCES, scores, strict=True):
        by_cell.setdefault((template, term.group), []).append(score)
    unmarked = [np.mean(by_cell[template, UNMARKED]) for template in TEMPLATES]
    for identity in IDENTITIES:
        marked = [np.mean(by_cell[template, identity]) for template in TEMPLATES]
        interval = ttest_rel(marked, unmarked).confidence_interval(0.95)
        civil = [
            score for template in TEMPLATES if template.tone in CIVIL_TONES for score in by_cell[template, identity]
        ]
        of_identity = found["identities"][identity]
        assert of_identity["shift"] == pytest.approx(np.mean(marked) - np.mean(unmarked))
        assert of_identity["interval"] == pytest.approx([interval.low, interval.high])
        assert np.mean(list(of_identity["shift_by_tone"].values())) == pytest.approx(of_identity["shift"])
        assert of_identity["false_positive_rate"]["0.9"] == np.mean([score >= threshold for score in civil])


def test_the_interval_covers_the_truth_as_often_as_it_says():
    # Shifts that differ between templates by a normal deviate: 95 % of the intervals hold the mean they came from.
    rng, draws = np.random.default_rng(0), 400
    held = 0
    for _ in range(draws):
        low, high = module._interval_of_mean(rng.normal(0.1, 0.2, 20))
        held += low <= 0.1 <= high
    # Three standard errors about 0.95.
    assert abs(held / draws - 0.95) < 3 * (0.95 * 0.05 / draws) ** 0.5
    assert module._interval_of_mean(np.array([0.0, 1.0]))[1] == pytest.approx(0.5 + t.ppf(0.975, 1) * 0.5)


def test_the_same_scores_give_the_same_json_and_the_texts_are_asked_for_once():
    asked = []

    def score(texts):
        asked.append(list(texts))
        return np.array([len(text) % 10 / 10 for text in texts], dtype=np.float32)

    first, second = (json.dumps(probe(score, THRESHOLDS), allow_nan=False) for _ in range(2))
    assert first == second
    assert asked == [[text for _, _, text in SENTENCES]] * 2
    found = json.loads(first)
    assert found["templates"] == len(TEMPLATES)
    assert found["texts"] == len(SENTENCES)
    assert list(found["identities"]) == list(IDENTITIES)
    assert set(found) == {"templates", "texts", "thresholds", "identities", "unmarked", "largest_shift"}


def test_without_fitted_thresholds_a_score_of_one_half_flags():
    found = probe(scorer(lambda template, term: 0.5 * (term.group == "male")), {})
    assert found["thresholds"] == {"default": 0.5}
    assert found["identities"]["male"]["false_positive_rate"] == {"default": 1.0}
    described = describe_probe(found)
    assert (
        "At the threshold of 0.500 it wrongly flags 0.0 % of the civil sentences about unmarked people, and"
        in described
    )
    assert "at most 100.0 % (male)" in described


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (np.zeros(3), "were given (3,) scores"),
        (np.zeros((len(SENTENCES), 1)), "scores"),
    ],
)
def test_scores_that_are_none(scores, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        probe(lambda texts: scores, THRESHOLDS)


def test_a_model_that_diverged_is_not_probed(caplog):
    scores = np.full(len(SENTENCES), 0.5)
    scores[[3, 70]] = np.nan
    assert probe(lambda texts: scores, THRESHOLDS) is None
    assert f"2 of {len(SENTENCES)} scores are not finite" in caplog.text


def test_the_description_has_the_numbers():
    def rule(template, term):
        return 0.05 + 0.7 * (term.group == "homosexual_gay_or_lesbian" and template.tone == "friendly")

    summary, table, legend = describe_probe(probe(scorer(rule), THRESHOLDS)).split("\n\n")
    assert "scores higher when it names: homosexual, gay or lesbian (+0.233)." in summary
    assert "At the threshold of 0.600 for precision 0.8 it wrongly flags 0.0 %" in summary
    assert "at most 50.0 % (homosexual, gay or lesbian)" in summary
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert rows[0] == [
        *("Identity", "Shift", "95 % interval", "Neutral", "Friendly", "Hostile", "Flagged (0.5)", "Flagged (0.8)")
    ]
    assert len({len(row) for row in rows}) == 1
    assert len({len(line) for line in table.splitlines()}) == 1
    by_name = {row[0]: row[1:] for row in rows[2:]}
    assert len(by_name) == 10
    assert by_name["homosexual, gay or lesbian"] == [
        *("+0.233", "+0.152 to +0.315", "0.000", "+0.700", "0.000", "50.0 %", "50.0 %")
    ]
    assert by_name["christian"] == ["0.000", "0.000 to 0.000", "0.000", "0.000", "0.000", "0.0 %", "0.0 %"]
    assert by_name["unmarked"] == ["", "", "", "", "", "0.0 %", "0.0 %"]
    assert f"{len(TEMPLATES)} templates in English, {len(SENTENCES)} sentences." in legend
    assert "at or above the threshold, 0.300 for precision 0.5, 0.600 for precision 0.8." in legend


@pytest.mark.parametrize(
    ("thresholds", "headings", "usual"),
    [
        (
            {"recall=0.9": 0.3, "0.98": 0.8, "flagged=0.02": 0.7},
            ["Flagged (recall 0.9)", "Flagged (0.98)", "Flagged (at most 2 % flagged)"],
            "0.800 for precision 0.98",
        ),
        ({"flagged=0.02": 0.7}, ["Flagged (at most 2 % flagged)"], "0.700 for at most 2 % flagged"),
        ({"recall=0.95": 0.3}, ["Flagged (recall 0.95)"], "0.300 for recall 0.95"),
        ({}, ["Flagged"], "0.500"),
    ],
)
def test_thresholds_are_told_by_what_they_are_for(thresholds, headings, usual):
    found = json.loads(json.dumps(probe(scorer(lambda template, term: 0.4), thresholds)))
    assert list(module.probe_table(found).header[6:]) == headings
    described = describe_probe(found)
    assert f"At the threshold of {usual} it wrongly flags" in described
    for name, threshold in thresholds.items():
        assert found["identities"]["male"]["false_positive_rate"][name] == (threshold <= 0.4)
        assert f"{threshold:.3f} for " in described


def test_a_description_lets_no_text_through():
    found = probe(scorer(lambda template, term: 0.1), THRESHOLDS)
    found["identities"]["<b>\x1b[31m"] = found["identities"]["male"]
    found["largest_shift"] = ["<script>", 0.1]
    assert not re.search(r"[<>\x00-\x09\x0b-\x1f_`*\[\]]", describe_probe(found))
    found["identities"]["male"]["shift"] = "<b>"
    with pytest.raises((TypeError, ValueError)):
        describe_probe(found)


def test_a_zero_has_no_sign():
    assert [module._signed(value) for value in (-0.0001, 0.0, 0.0004, -0.0006)] == ["0.000", "0.000", "0.000", "−0.001"]


def test_every_label_is_probed_with_its_own_thresholds_and_the_texts_are_scored_once():
    asked = []
    rules = {
        "hate": lambda template, term: 0.1 + 0.3 * (term.group == "muslim"),
        "threat": lambda template, term: 0.2 + 0.1 * (term.group == "black"),
    }

    def score(texts):
        asked.append(len(texts))
        return np.stack([scorer(rule)(texts) for rule in rules.values()], axis=1)

    thresholds = {"hate": THRESHOLDS, "threat": {}}
    found = probe_labels(score, thresholds)
    alone = {name: probe(scorer(rule), thresholds[name]) for name, rule in rules.items()}
    assert asked == [len(SENTENCES)]
    assert found == alone["hate"] | {"labels": alone}
    assert list(found["labels"]) == ["hate", "threat"]
    assert probe_labels(lambda texts: score(texts)[:, :1], {"hate": THRESHOLDS}) == alone["hate"], "one label as ever"
    with pytest.raises(ValueError, match=re.escape(f"({len(SENTENCES)}, 2) scores")):
        probe_labels(score, {"hate": THRESHOLDS})
    assert probe_labels(lambda texts: score(texts) * [1, np.nan], thresholds) is None


def test_the_shifts_of_several_labels_are_a_table_and_the_description_is_of_the_main_one():
    names = ("hate", "x|<b>`\x1b", "*")
    raised = np.array([0.3, 0.1, 0.0])
    found = probe_labels(
        lambda texts: np.array([0.1 + raised * (BY_TEXT[text][1].group == "muslim") for text in texts]),
        dict.fromkeys(names, THRESHOLDS),
    )
    found = json.loads(json.dumps(found))
    assert describe_probe(found) == describe_probe(found["labels"]["hate"])
    header, rows = label_table(found)
    assert header == ("Identity", "`hate`", "`x¦<b>'\\x1b`", "`*`")
    by_name = {name: shifts for name, *shifts in rows}
    assert len(by_name) == len(IDENTITIES)
    assert by_name["muslim"] == ["+0.300", "+0.100", "0.000"]
    assert by_name["jewish"] == ["0.000"] * 3
