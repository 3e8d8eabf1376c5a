import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest
from sklearn.metrics import cohen_kappa_score

from toxicity.evaluation.threshold_matching import Cut, describe_matches, match_thresholds


def drawn(rng, rows=2000):
    """Scores of two models that agree on most, the new ones lower."""
    toxicity = rng.normal(-1.0, 2.0, rows)
    old, new = (1 / (1 + np.exp(-toxicity - rng.normal(0.0, 1.0, rows) + shift)) for shift in (0.0, 1.5))
    return old, new


def matched(old, new, threshold=0.8, toxic=None):
    return match_thresholds(old, new, [threshold], toxic)["thresholds"][f"{threshold:g}"]


def described(result, label="toxic"):
    return describe_matches({"TOXICITY": {"label": label} | result})


def test_a_threshold_that_flags_as_many():
    old, new = drawn(np.random.default_rng(0))
    found = match_thresholds(old, new, [0.7, 0.8, 0.9])
    assert json.loads(json.dumps(found)) == found
    assert found["comments"] == 2000
    assert 0.7 < found["spearman"] < 0.9
    for name, each in found["thresholds"].items():
        by_old, by_new = old >= float(name), new >= each["threshold"]
        assert each["old_flagged"] == each["flagged"] == by_old.sum() == by_new.sum()
        assert each["old_share"] == each["share"] == by_old.mean()
        agreement = each["agreement"]
        assert agreement["both"] == (by_old & by_new).sum()
        assert agreement["old_only"] == agreement["new_only"] == (by_old & ~by_new).sum()
        assert agreement["neither"] == (~by_old & ~by_new).sum()
        assert agreement["kappa"] == pytest.approx(cohen_kappa_score(by_old, by_new))
        assert each["interval"][0] < each["threshold"] < each["interval"][1]
        assert each["threshold"] < float(name), "the new scores are lower"
        assert "precision" not in each


def test_the_same_scores_have_the_same_thresholds():
    old, _ = drawn(np.random.default_rng(0))
    found = matched(old, old)
    assert found["agreement"]["kappa"] == 1
    assert found["agreement"]["old_only"] == 0
    assert ((old >= found["threshold"]) == (old >= 0.8)).all()


def test_the_interval_holds_the_threshold_of_all_comments_as_often_as_it_says():
    rng = np.random.default_rng(1)
    old, new = drawn(rng, 400_000)
    right, kept = np.quantile(new, 1 - (old >= 0.8).mean()), []
    for _ in range(400):
        low, high = matched(*drawn(rng, 600))["interval"]
        kept.append(low < right <= high)
    assert binom.ppf(0.001, 400, 0.95) <= sum(kept) < 398


def test_the_interval_is_that_of_the_exact_test_of_mcnemar():
    old, new = drawn(np.random.default_rng(3), 300)
    low, high = matched(old, new)["interval"]
    kept = []
    for score in np.sort(new):
        old_only = int(((old >= 0.8) & (new < score)).sum())
        new_only = int(((old < 0.8) & (new >= score)).sum())
        if not old_only + new_only or binomtest(new_only, old_only + new_only).pvalue > 0.05:
            kept.append(score)
    assert max(kept) == high
    assert low == max(new[new < min(kept)])


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.sampled_from([0.3, 0.5, 0.8]))
def test_of_comments_with_equal_scores_the_nearest_number(seed, steps, threshold):
    old, new = drawn(np.random.default_rng(seed), 300)
    new = np.round(new * steps) / steps
    found = matched(old, new, threshold)
    possible = [int((new >= score).sum()) for score in np.unique(new)]
    if "reason" in found:
        assert min(found["old_flagged"], 300 - found["old_flagged"]) < 30
        return
    assert found["flagged"] == (new >= found["threshold"]).sum()
    assert abs(found["flagged"] - found["old_flagged"]) == min(abs(each - found["old_flagged"]) for each in possible)


def test_a_plateau_is_told():
    old, new = np.linspace(0, 1, 1000), np.r_[np.zeros(500), np.full(500, 0.9)]
    result = match_thresholds(old, new, [0.8])
    found = result["thresholds"]["0.8"]
    assert (found["old_flagged"], found["flagged"], found["interval"]) == (200, 500, None)
    assert found["agreement"] | {"kappa": 0} == {
        "both": 200,
        "old_only": 0,
        "new_only": 300,
        "neither": 500,
        "kappa": 0,
    }
    text = described(result)
    assert "20.0 % (200)" in text
    assert "50.0 % (500)" in text
    assert "`TOXICITY` from 0.8 on: too many comments have equal new scores" in text


@pytest.mark.parametrize(
    ("flagged", "reason"),
    [
        (0, "0 comments have an old score of at least 0.8, and 30 are needed"),
        (29, "29 comments have an old score of at least 0.8, and 30 are needed"),
        (180, "20 comments have an old score below 0.8, and 30 are needed"),
    ],
)
def test_of_too_few_comments_nothing_is_told(flagged, reason):
    old = np.where(np.arange(200) < flagged, 0.8, 0.1)
    result = match_thresholds(old, np.linspace(1, 0, 200), [0.8])
    assert result["thresholds"]["0.8"] == {"old_flagged": flagged, "old_share": flagged / 200, "reason": reason}
    text = described(result)
    assert f"{reason}; give more comments." in text
    assert "nan" not in text


def test_scores_that_are_all_equal():
    result = match_thresholds(np.linspace(0, 1, 200), np.full(200, 0.4), [0.8])
    found = result["thresholds"]["0.8"]
    assert result["spearman"] is None
    assert (found["flagged"], found["interval"], found["agreement"]["kappa"]) == (200, None, 0)
    assert "All scores of one of both are equal" in described(result)


def test_a_low_rank_correlation_is_told():
    rng = np.random.default_rng(0)
    low = match_thresholds(rng.random(500), rng.random(500), [0.8])
    assert "That is low" in described(low)
    assert "That is low" not in described(match_thresholds(*drawn(rng), [0.8]))


def test_precisions_where_there_are_labels():
    rng = np.random.default_rng(0)
    old, new = drawn(rng, 4000)
    toxic = (rng.random(4000) < new).astype(float)
    toxic[::2] = np.nan
    result = match_thresholds(old, new, [0.7], toxic)
    found = result["thresholds"]["0.7"]["precision"]
    known = ~np.isnan(toxic)
    assert found["labelled"] == 2000
    assert found["old"] == toxic[known & (old >= 0.7)].mean()
    assert found["new"] == toxic[known & (new >= result["thresholds"]["0.7"]["threshold"])].mean()
    same = found["same"]
    assert same["precision"] == toxic[known & (new >= same["threshold"])].mean()
    assert same["precision"] > found["old"]
    assert same["share"] == (new[known] >= same["threshold"]).mean()
    assert f"| {100 * found['old']:.1f} %" in described(result)


@pytest.mark.parametrize(
    ("toxic", "told"),
    [
        (lambda old: np.full(len(old), np.nan), "precision is not told, as 0 flagged comments have a label"),
        (lambda old: np.where(old > 0.97, 1.0, np.nan), "flagged comments have a label, and 30 are needed"),
        (lambda old: (old > 0.5).astype(float), "all of those with a label that the old threshold flags are toxic"),
        (lambda old: np.zeros(len(old)), "none of those with a label that the old threshold flags are toxic"),
        (lambda old: np.ones(len(old)), "all of those with a label"),
        (
            lambda old: np.where(old >= 0.75, old != old[old >= 0.8].min(), np.nan),
            "there is no threshold for the old precision: not enough comments",
        ),
    ],
)
def test_precisions_that_cannot_be_told(toxic, told):
    old, new = drawn(np.random.default_rng(0), 600)
    result = match_thresholds(old, new, [0.8], toxic(old))
    assert told in described(result)
    assert json.loads(json.dumps(result)) == result


@pytest.mark.parametrize(
    ("below", "above", "threshold"),
    [
        (0.5504, 0.66, 0.6),
        (0.6123, 0.6178, 0.615),
        (0.0, 0.001, 0.0005),
        (0.0, 0.0, 0.0),
        (0.5, np.nextafter(0.5, 1), np.nextafter(0.5, 1)),
    ],
)
def test_a_threshold_has_few_digits(below, above, threshold):
    assert Cut(below, above, 1).threshold == threshold


def test_names_of_strangers_are_no_markup():
    text = described(match_thresholds(*drawn(np.random.default_rng(0)), [0.8]), label="<b>|`x")
    assert "``<b>|`x``" in text
