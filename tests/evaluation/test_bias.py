import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

import toxicity.evaluation.bias
from toxicity.core.schema import IDENTITIES
from toxicity.evaluation.bias import CELLS, bias_metrics, power_mean
from toxicity.evaluation.roc import MINIMUM_CLASS_ROWS, score_ranks


@pytest.fixture
def one_row_is_enough(monkeypatch):
    monkeypatch.setattr(toxicity.evaluation.bias, "MINIMUM_CLASS_ROWS", 1)


def bias(logits, toxic, identities, auc=0.9):
    return bias_metrics(score_ranks(np.array(logits, dtype=float)), np.array(toxic) == 1, identities, auc)


def slow_auc(toxic_scores, civil_scores):
    pairs = list(product(toxic_scores, civil_scores))
    return sum((toxic > civil) + (toxic == civil) / 2 for toxic, civil in pairs) / len(pairs)


def slow_bias(logits, targets, identities, minimum):
    """The competition's definition, row by row and pair by pair."""
    rows, table = range(len(logits)), {}
    for name, values in identities.items():
        subgroup = [values[row] >= 0.5 for row in rows]  # NaN is not
        cells = {
            "subgroup_auc": [row for row in rows if subgroup[row]],
            "bpsn_auc": [row for row in rows if subgroup[row] == (targets[row] < 0.5)],
            "bnsp_auc": [row for row in rows if subgroup[row] == (targets[row] >= 0.5)],
        }
        table[name] = {
            "rows": sum(subgroup),
            "toxic_rows": sum(inside and targets[row] >= 0.5 for row, inside in enumerate(subgroup)),
        }
        for cell, members in cells.items():
            toxic = [logits[row] for row in members if targets[row] >= 0.5]
            civil = [logits[row] for row in members if targets[row] < 0.5]
            enough = len(toxic) >= minimum and len(civil) >= minimum
            table[name][cell] = slow_auc(toxic, civil) if enough else None
    counted = [row for row in table.values() if None not in row.values()]
    means = {}
    for cell in CELLS:
        values = [row[cell] for row in counted]
        if not values:
            means[cell] = None
        elif 0 in values:
            means[cell] = 0.0
        else:
            means[cell] = (sum(value**-5 for value in values) / len(values)) ** (-1 / 5)
    return table, means, len(counted)


@pytest.mark.usefixtures("one_row_is_enough")
def test_the_three_aucs_worked_by_hand():
    #             with the identity    without it
    logits = [3.0, 1.0, 2.0, 0.0, 4.0, 1.5, 1.0, -1.0]
    toxic = [1, 1, 0, 0, 1, 1, 0, 0]
    identity = np.array([1.0, 0.5, 0.7, 0.5, 0.0, 0.49, np.nan, 0.0])
    result, undefined = bias(logits, toxic, {"male": identity}, auc=0.8)
    assert undefined == {}
    assert result["identities"]["male"] == {
        "rows": 4,
        "toxic_rows": 2,
        "subgroup_auc": 3 / 4,  # 3 beats 2 and 0, 1 beats 0
        "bpsn_auc": 3 / 4,  # toxic 4 and 1.5 without it against civil 2 and 0 with it
        "bnsp_auc": 3.5 / 4,  # toxic 3 and 1 with it against civil 1 and −1 without it
    }
    assert result["identities_counted"] == 1
    assert [result[cell] for cell in CELLS] == pytest.approx([0.75, 0.75, 0.875])
    assert result["final_score"] == pytest.approx((0.8 + 0.75 + 0.75 + 0.875) / 4)


def test_the_power_mean_leans_to_the_identity_served_worst():
    # (1 + 2^5) / 2 = 16.5
    assert power_mean([1.0, 0.5]) == pytest.approx(16.5 ** (-1 / 5))
    assert power_mean([0.8, 0.8, 0.8]) == pytest.approx(0.8)
    assert power_mean([0.0, 1.0]) == 0.0


def test_too_few_rows_are_undefined_with_a_reason_and_left_out_of_every_mean():
    rng = np.random.default_rng(0)
    toxic = np.arange(200) % 2
    logits = rng.normal(size=200) + toxic
    many = (np.arange(200) < 100).astype(float)
    few = np.zeros(200)
    few[[1, 3, 5, *range(0, 60, 2)]] = 1.0  # 3 toxic rows, 30 civil ones
    result, undefined = bias(logits, toxic, {"male": many, "jewish": few, "white": np.zeros(200)})
    jewish = result["identities"]["jewish"]
    assert (jewish["rows"], jewish["toxic_rows"]) == (33, 3)
    assert (jewish["subgroup_auc"], jewish["bnsp_auc"]) == (None, None)
    assert jewish["bpsn_auc"] == roc_auc_score(toxic[few != toxic], logits[few != toxic])
    reason = f"3 toxic rows, fewer than {MINIMUM_CLASS_ROWS}"
    assert undefined == {
        "identities.jewish.subgroup_auc": reason,
        "identities.jewish.bnsp_auc": reason,
        "identities.white.subgroup_auc": "there are no rows",
        "identities.white.bpsn_auc": "0 civil rows, fewer than 10",
        "identities.white.bnsp_auc": "0 toxic rows, fewer than 10",
    }
    assert result["identities_counted"] == 1
    assert result["bpsn_auc"] == pytest.approx(result["identities"]["male"]["bpsn_auc"])


@pytest.mark.parametrize(
    ("identity", "auc", "undefined_means"),
    [(np.zeros(60), 0.9, 3), ((np.arange(60) < 30).astype(float), None, 0)],
    ids=["no identity", "no AUC of all rows"],
)
def test_no_final_score_without_all_four_parts(identity, auc, undefined_means):
    result, undefined = bias(np.arange(60), np.arange(60) % 2, {"male": identity}, auc)
    assert result["final_score"] is None
    assert "final_score" in undefined
    assert sum(result[cell] is None and cell in undefined for cell in CELLS) == undefined_means


ROW = st.tuples(
    st.integers(-3, 3),
    st.sampled_from([0.0, 0.4999, 0.5, 1.0]),
    st.sampled_from([0.0, 0.49, 0.5, 1.0, math.nan]),
    st.sampled_from([0.0, 0.5, math.nan]),
)


@settings(max_examples=200)
@given(st.lists(ROW, min_size=1, max_size=40), st.integers(1, 3))
def test_against_the_definition_taken_literally(rows, minimum):
    logits, targets, *columns = map(list, zip(*rows, strict=True))
    identities = dict(zip(IDENTITIES, columns, strict=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toxicity.evaluation.bias, "MINIMUM_CLASS_ROWS", minimum)
        arrays = {name: np.array(values) for name, values in identities.items()}
        result, undefined = bias(logits, np.array(targets) >= 0.5, arrays)
    table, means, counted = slow_bias(logits, targets, identities, minimum)
    for name, row in table.items():
        assert result["identities"][name] == pytest.approx(row, abs=1e-12)
        assert {cell for cell in CELLS if row[cell] is None} == {
            path.split(".")[2] for path in undefined if path.startswith(f"identities.{name}.")
        }
    assert {cell: result[cell] for cell in CELLS} == pytest.approx(means, abs=1e-12)
    assert result["identities_counted"] == counted


def test_against_scikit_learn_on_1000_cells_with_ties():
    rng = np.random.default_rng(0)
    for draw in range(334):
        rows = int(rng.integers(100, 300))
        toxic = rng.integers(0, 2, rows) == 1
        logits = rng.integers(0, int(rng.integers(2, 60)), rows) / 7 + toxic
        target = rng.choice([0.0, 0.3, 0.5, 1.0, np.nan], rows)
        result, undefined = bias(logits, toxic, {"black": target})
        assert undefined == {}
        within = target >= 0.5
        for cell, members in (
            ("subgroup_auc", within),
            ("bpsn_auc", within != toxic),
            ("bnsp_auc", within == toxic),
        ):
            expected = roc_auc_score(toxic[members], logits[members])
            assert result["identities"]["black"][cell] == pytest.approx(expected, abs=1e-14), draw
