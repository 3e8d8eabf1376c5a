import json

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, roc_auc_score

from toxicity.core.errors import RequestError
from toxicity.evaluation import bias
from toxicity.evaluation.template_sets import (
    MOST_TERMS,
    MOST_TERMS_SHOWN,
    TERMS,
    describe_templates,
    named_terms,
    template_metrics,
    terms_in,
)

# The two terms, and rows with none.
ROWS = {"bakers": [0, 1, 2, 3], "cooks": [4, 5, 6, 7], "": [8, 9]}
SCORES = np.array([0.9, 0.4, 0.6, 0.1, 0.8, 0.7, 0.2, 0.1, 0.5, 0.3])
TOXIC = np.array([1, 1, 0, 0, 1, 1, 0, 0, 1, 0]) == 1
NAMES = [name for name, rows in ROWS.items() for _ in rows]


@pytest.fixture
def one_row_is_enough(monkeypatch):
    monkeypatch.setattr(bias, "MINIMUM_CLASS_ROWS", 1)


@pytest.mark.usefixtures("one_row_is_enough")
def test_ten_sentences_worked_by_hand():
    found = template_metrics(SCORES, TOXIC, named_terms(NAMES), {"0.8": 0.5})
    assert (found["rows"], found["toxic_rows"], found["rows_without_term"]) == (10, 5, 2)
    # Of 25 pairs two are the wrong way round: the civil 0.6 is above the toxic 0.4 and 0.5.
    assert found["auc"] == 23 / 25
    bakers, cooks = found["terms"]["bakers"], found["terms"]["cooks"]
    assert {key: bakers[key] for key in ("rows", "toxic_rows", "subgroup_auc", "bpsn_auc", "bnsp_auc")} == {
        "rows": 4,
        "toxic_rows": 2,
        "subgroup_auc": 3 / 4,  # 0.9 and 0.4 against 0.6 and 0.1
        "bpsn_auc": 5 / 6,  # the others' 0.8, 0.7 and 0.5 against 0.6 and 0.1
        "bnsp_auc": 1.0,  # 0.9 and 0.4 against the others' 0.2, 0.1 and 0.3
    }
    assert cooks["subgroup_auc"] == cooks["bpsn_auc"] == cooks["bnsp_auc"] == 1.0
    assert found["lowest_bpsn_auc"] == ["bakers", 5 / 6]
    # The mean of the AUCs of: all, the term, all toxic against its civil, its toxic against all civil.
    pinned = {"bakers": (23 / 25 + 3 / 4 + 8 / 10 + 9 / 10) / 4, "cooks": (23 / 25 + 1 + 1 + 1) / 4}
    assert bakers["pinned_auc"] == pytest.approx(pinned["bakers"], abs=1e-15)
    assert cooks["pinned_auc"] == pytest.approx(pinned["cooks"], abs=1e-15)
    differences = abs(23 / 25 - pinned["bakers"]) + abs(23 / 25 - pinned["cooks"])
    assert found["pinned_auc_equality_difference"] == pytest.approx(differences, abs=1e-15)
    # Of the civil sentences 0.6 is flagged, of the toxic ones 0.4 is not.
    assert (found["false_positive_rate"], found["false_negative_rate"]) == ({"0.8": 0.2}, {"0.8": 0.2})
    assert (bakers["false_positive_rate"], bakers["false_negative_rate"]) == ({"0.8": 0.5}, {"0.8": 0.5})
    assert (cooks["false_positive_rate"], cooks["false_negative_rate"]) == ({"0.8": 0.0}, {"0.8": 0.0})
    assert found["false_positive_equality_difference"]["0.8"] == pytest.approx(0.3 + 0.2)
    assert found["false_negative_equality_difference"]["0.8"] == pytest.approx(0.3 + 0.2)
    assert found["undefined"] == {}
    json.dumps(found, allow_nan=False)


def test_against_scikit_learn_with_ties():
    rng = np.random.default_rng(0)
    for _ in range(50):
        rows = int(rng.integers(200, 2_000))
        toxic = rng.integers(0, 2, rows) == 1
        scores = (rng.integers(0, int(rng.integers(3, 60)), rows) / 60 + toxic / 4).clip(0, 1).astype(np.float32)
        terms = {name: rng.random(rows) < 0.3 for name in ("bakers", "cooks")}
        thresholds = {"0.5": 0.25, "0.9": float(rng.random())}
        found = template_metrics(scores, toxic, terms, thresholds)
        auc = roc_auc_score(toxic, scores)
        assert found["auc"] == pytest.approx(auc, abs=1e-12)
        pinned, rates = [], {name: [] for name in thresholds}
        for term, within in terms.items():
            row = found["terms"][term]
            for cell, members in (
                ("subgroup_auc", within),
                ("bpsn_auc", within != toxic),
                ("bnsp_auc", within == toxic),
            ):
                assert row[cell] == pytest.approx(roc_auc_score(toxic[members], scores[members]), abs=1e-12)
            weights = np.concatenate([np.full(rows, 1 / rows), np.full(within.sum(), 1 / within.sum())])
            both = np.append(np.arange(rows), np.flatnonzero(within))
            pinned.append(roc_auc_score(toxic[both], scores[both], sample_weight=weights))
            assert row["pinned_auc"] == pytest.approx(pinned[-1], abs=1e-12)
            for name, threshold in thresholds.items():
                rates[name].append(error_rates(toxic[within], scores[within], threshold))
                assert (row["false_positive_rate"][name], row["false_negative_rate"][name]) == rates[name][-1]
        assert found["pinned_auc_equality_difference"] == pytest.approx(
            sum(abs(auc - one) for one in pinned), abs=1e-12
        )
        for name, threshold in thresholds.items():
            of_all = error_rates(toxic, scores, threshold)
            sums = np.abs(np.array(rates[name]) - of_all).sum(axis=0)
            assert found["false_positive_equality_difference"][name] == pytest.approx(sums[0], abs=1e-12)
            assert found["false_negative_equality_difference"][name] == pytest.approx(sums[1], abs=1e-12)


def error_rates(toxic, scores, threshold):
    (kept, flagged), (missed, hit) = confusion_matrix(toxic, scores.astype(float) >= threshold, labels=[False, True])
    return flagged / (kept + flagged), missed / (missed + hit)


def test_what_cannot_be_measured_is_none_with_a_reason_and_no_part_of_the_sums():
    toxic = np.arange(100) % 2 == 1
    scores = np.where(toxic, 0.8, 0.2)
    terms = {"cooks": np.arange(100) < 40, "bakers": np.isin(np.arange(100), [1, 3])}
    found = template_metrics(scores, toxic, terms, {})
    bakers = found["terms"]["bakers"]
    assert (bakers["subgroup_auc"], bakers["bpsn_auc"], bakers["bnsp_auc"]) == (None, None, None)
    assert found["undefined"]["terms.bakers.bpsn_auc"] == "0 civil rows, fewer than 10"
    assert (bakers["false_positive_rate"], bakers["false_negative_rate"]) == ({"default": None}, {"default": 0.0})
    assert found["false_positive_equality_difference"] == {"default": 0.0}
    assert found["lowest_bpsn_auc"] == ["cooks", 1.0]
    described = describe_templates(found)
    assert described.index("`cooks`") < described.index("`bakers`")
    assert "| undefined |" in described
    none = template_metrics(scores, toxic, {"bakers": terms["bakers"]}, {})
    assert none["lowest_bpsn_auc"] is None
    assert "No term has a BPSN AUC; the JSON gives the reasons under `undefined`." in describe_templates(none)


@pytest.mark.usefixtures("one_row_is_enough")
def test_the_tables():
    described = describe_templates(template_metrics(SCORES, TOXIC, named_terms(NAMES), {"0.8": 0.5, "0.5": 0.2}))
    assert described.startswith(
        "AUC 0.920 over 10 sentences, 5 of them toxic, 2 with none of the 2 terms. The lowest BPSN AUC is 0.833, of "
        "`bakers`. The pinned AUC equality difference is 0.13"
    )
    assert "| 0.500 for precision 0.8 | 20.0 % | 20.0 % | 0.500 | 0.500 |" in described
    assert described.index("| `bakers`") < described.index("| `cooks`")
    assert "FPR (0.8)" in described


def test_long_tables_show_the_worst_terms():
    rng = np.random.default_rng(0)
    names = [f"term {row % 50}" for row in range(5_000)]
    found = template_metrics(rng.random(5_000), rng.random(5_000) < 0.5, named_terms(names), {})
    described = describe_templates(found)
    assert sum(line.startswith("| `term") for line in described.splitlines()) == MOST_TERMS_SHOWN
    assert f"The worst {MOST_TERMS_SHOWN} of 50." in described
    assert f"| `{found['lowest_bpsn_auc'][0]}` " in described


def test_terms_of_a_column():
    found = named_terms(["Bakers", "", "bakers", "cooks"])
    assert {name: rows.tolist() for name, rows in found.items()} == {
        "bakers": [True, False, True, False],
        "cooks": [False, False, False, True],
    }


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["", ""], "the column of terms is empty: fill a column `term` with the term"),
        ([f"row {row}" for row in range(MOST_TERMS + 1)], "holds 1,001 different ones, more than 1,000"),
    ],
)
def test_columns_that_name_no_terms_are_refused(names, message):
    with pytest.raises(RequestError, match=message):
        named_terms(names)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("A Muslim baker.", ["muslim"]),
        ("MUSLIMS bake", ["muslim"]),
        ("an African American cook", ["african american"]),
        ("an african-american cook", ["african american"]),
        ("an african cook", ["african"]),
        ("a young, blind cook", ["young", "blind"]),
        ("a straightforward whiteboard", []),
        ("", []),
    ],
)
def test_terms_in_sentences(text, terms):
    found = terms_in([text, "a deaf cook"])
    assert sorted(term for term, rows in found.items() if rows[0]) == sorted(terms)
    assert found["deaf"].tolist() == [False, True]


def test_sentences_without_any_known_term_are_refused():
    with pytest.raises(
        RequestError, match=r"none of \d+ known terms, such as lesbian, is in any sentence: add a column"
    ):
        terms_in(["a tall cook"])
    assert len(set(TERMS)) == len(TERMS)
