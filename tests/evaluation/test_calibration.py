import json
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from toxicity.evaluation.calibration import (
    MINIMUM_FLAGGED_ROWS,
    PRECISION_TARGETS,
    Calibration,
    calibrate,
    choose_thresholds,
    fit_temperature,
    halves,
    precision_and_recall,
)
from toxicity.evaluation.calibration_metrics import log_loss


def made_up(rows=4000, temperature=2.0, seed=0):
    """Logits `temperature` times too large, and labels drawn with the probabilities of the right ones."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1.0, 2.5, rows)
    return temperature * logits, (rng.random(rows) < 1 / (1 + np.exp(-logits))).astype(float)


def test_halves_part_all_rows():
    fitted, held_out = halves(11, seed=0)
    assert (len(fitted), len(held_out)) == (5, 6)
    assert sorted([*fitted, *held_out]) == list(range(11))


def test_halves_hang_on_the_seed_alone():
    first = halves(100, seed=7)
    np.random.seed(1)
    torch.manual_seed(1)
    random.seed(1)
    before = np.random.get_state()[1].copy(), torch.get_rng_state().clone()
    second = halves(100, seed=7)
    assert np.array_equal(first[0], second[0])
    assert np.array_equal(np.random.get_state()[1], before[0])
    assert torch.equal(torch.get_rng_state(), before[1])
    assert not np.array_equal(first[0], halves(100, seed=8)[0])


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_the_temperature_that_made_the_logits_is_found(temperature):
    logits, labels = made_up(40_000, temperature)
    assert fit_temperature(logits, labels == 1) == pytest.approx(temperature, rel=0.05)


def test_no_other_temperature_has_a_smaller_loss():
    logits, labels = made_up(500)
    toxic = labels == 1
    found = fit_temperature(logits, toxic)
    searched = minimize_scalar(
        lambda temperature: log_loss(logits / temperature, toxic), bounds=(0.05, 20.0), method="bounded"
    )
    assert found == pytest.approx(searched.x, rel=1e-4)
    assert log_loss(logits / found, toxic) <= searched.fun + 1e-15


@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["without a mistake", "worse than chance"])
def test_some_scores_have_no_best_temperature(sign, caplog):
    logits = np.linspace(-2.0, 2.0, 200)
    assert fit_temperature(sign * logits, logits > 0) is None
    result = calibrate(sign * logits, logits > 0, seed=0).measured
    assert result["temperature"] == 1.0
    assert "0.05 to 20" in result["temperature_reason"]
    assert result["temperature_reason"] in caplog.text
    for measured in result["held_out"].values():
        assert measured["before"] == measured["after"]


def test_the_fit_is_measured_on_rows_that_it_has_not_seen():
    logits, labels = made_up()
    fitted, held_out = halves(len(logits), seed=3)
    result = calibrate(logits, labels, seed=3).measured
    assert (result["fitted_rows"], result["held_out_rows"]) == (2000, 2000)
    assert result["temperature"] == fit_temperature(logits[fitted], labels[fitted] == 1)
    assert result["temperature"] == pytest.approx(2.0, rel=0.15)
    toxic = labels[held_out] == 1
    assert result["held_out"]["log_loss"] == {
        "before": log_loss(logits[held_out], toxic),
        "after": log_loss(logits[held_out] / result["temperature"], toxic),
    }
    for measured in result["held_out"].values():
        assert measured["after"] < measured["before"]
    for row in result["thresholds"]:
        scores = 1 / (1 + np.exp(-logits[held_out] / result["temperature"]))
        flagged = scores >= row["threshold"]
        assert row["flagged"] == flagged.mean()
        assert row["precision"] == toxic[flagged].mean()
        assert row["recall"] == flagged[toxic].mean()
        assert row["precision"] == pytest.approx(row["precision_target"], abs=0.05)
        # The threshold for a pipeline flags the same rows.
        assert np.array_equal(1 / (1 + np.exp(-logits[held_out])) >= row["pipeline_threshold"], flagged)


def test_what_held_out_rows_are_changes_nothing_that_is_fitted():
    logits, labels = made_up()
    _, held_out = halves(len(logits), seed=0)
    changed = labels.copy()
    changed[held_out] = 1 - changed[held_out]
    first, second = calibrate(logits, labels, seed=0), calibrate(logits, changed, seed=0)
    assert first.to_config() == second.to_config()
    assert first.measured["held_out"] != second.measured["held_out"]


def test_thresholds_rise_with_the_precision():
    result = calibrate(*made_up(), seed=0).measured
    assert [row["precision_target"] for row in result["thresholds"]] == list(PRECISION_TARGETS)
    thresholds = [row["threshold"] for row in result["thresholds"]]
    assert thresholds == sorted(thresholds)
    recalls = [row["recall"] for row in result["thresholds"]]
    assert recalls == sorted(recalls, reverse=True)
    assert (result["precision_target"], result["threshold"]) == (0.9, thresholds[2])


def test_a_precision_out_of_reach_says_so_and_is_not_in_the_config():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=2000), rng.random(2000) < 0.6
    result = calibrate(logits, labels, seed=0).measured
    rows = {row["precision_target"]: row for row in result["thresholds"]}
    assert rows[0.5]["precision"] == pytest.approx(0.6, abs=0.05)
    assert "reason" not in rows[0.5]
    for target in (0.9, 0.95):
        assert "no threshold" in rows[target].pop("reason")
        assert set(rows[target].items()) == {("precision_target", target)} | {
            (name, None) for name in ("threshold", "pipeline_threshold", "precision", "recall", "flagged")
        }
    section = Calibration.from_benchmark(result).to_config()
    assert set(section["thresholds"]) == {"0.5"}
    assert (section["threshold"], section["precision_target"]) == (0.5, None)


def test_a_threshold_that_flags_no_held_out_row_says_so():
    logits, labels = np.full(400, -1.0), np.arange(400) % 4 == 0
    fitted, _ = halves(400, seed=0)
    sure = fitted[labels[fitted]][:25]
    logits[sure] = 5.0
    rows = {row["precision_target"]: row for row in calibrate(logits, labels, seed=0).measured["thresholds"]}
    assert (rows[0.95]["precision"], rows[0.95]["recall"], rows[0.95]["flagged"]) == (None, 0.0, 0.0)
    assert rows[0.95]["threshold"] is not None
    assert rows[0.95]["reason"] == "no held-out row is flagged"


@pytest.mark.parametrize(
    ("logits", "targets", "reason"),
    [
        (np.zeros(0), np.zeros(0), "there are no rows"),
        (np.zeros(100), np.zeros(100), "in the fitted half 0 toxic rows, fewer than 10"),
        (np.zeros(30), np.arange(30) % 2, "rows, fewer than 10"),
        (np.r_[np.nan, np.inf, np.zeros(98)], np.arange(100) % 2, "2 of 100 logits are not finite"),
    ],
)
def test_nothing_is_fitted_to_next_to_nothing(logits, targets, reason, caplog):
    nothing = calibrate(logits, targets, seed=0)
    assert nothing == Calibration()
    assert nothing.measured is None
    assert nothing.held_out is None
    assert reason in caplog.text


def test_it_is_plain_json_and_the_config_names_what_predictions_need():
    result = calibrate(np.float32(made_up()[0]), made_up()[1], seed=0).measured
    assert json.loads(json.dumps(result)) == result
    section = Calibration.from_benchmark(result).to_config()
    assert json.loads(json.dumps(section)) == section
    assert section == {
        "temperature": result["temperature"],
        "threshold": result["threshold"],
        "precision_target": 0.9,
        "thresholds": {str(row["precision_target"]): row["threshold"] for row in result["thresholds"]},
    }
    assert list(section["thresholds"]) == ["0.5", "0.8", "0.9", "0.95"]


def test_what_was_written_to_the_config_is_read_back():
    fitted = calibrate(*made_up(), seed=0)
    read = Calibration.from_config(json.loads(json.dumps(fitted.to_config())))
    assert read.to_config() == fitted.to_config()
    assert Calibration.from_config({}) == Calibration(1.0, 0.5, None, {})
    logits = made_up()[0]
    assert np.array_equal(read.probability(logits), 1 / (1 + np.exp(-logits / fitted.temperature)))
    assert np.array_equal(fitted.held_out, halves(len(logits), seed=0)[1])


@pytest.mark.parametrize("section", [{"temperature": "warm"}, {"thresholds": [0.5]}, {"threshold": None}, "no section"])
def test_what_others_wrote_there_is_an_error(section):
    with pytest.raises((AttributeError, TypeError, ValueError)):
        Calibration.from_config(section)


@pytest.mark.filterwarnings("error")
def test_scores_beyond_all_floats_are_0_and_1():
    assert Calibration().probability(np.float32([-2000, 0, 2000])).tolist() == [0.0, 0.5, 1.0]


def test_the_threshold_for_a_pipeline_labels_the_same_comments():
    calibration = Calibration(temperature=2.5, threshold=0.7)
    logits = np.linspace(-8, 8, 1001)
    labelled = calibration.probability(logits) >= calibration.threshold
    assert np.array_equal(Calibration().probability(logits) >= calibration.pipeline_threshold, labelled)


def choose_threshold(logits, toxic, precision_target):
    (threshold,) = choose_thresholds(logits, toxic, [precision_target])
    return threshold


def slow_threshold(logits, toxic, target):
    """The lowest logit that flags enough rows with enough precision, by trying all."""
    for threshold in sorted(set(logits)):
        flagged = [label for value, label in zip(logits, toxic, strict=True) if value >= threshold]
        if len(flagged) >= MINIMUM_FLAGGED_ROWS and sum(flagged) / len(flagged) >= target:
            return threshold
    return None


def test_the_lowest_that_reaches_the_precision():
    # From the top: 30 toxic rows, then 10 civil, then 20 toxic: 50 of 60; then 40 civil.
    logits = np.repeat([4.0, 3.0, 2.0, 1.0], [30, 10, 20, 40])
    toxic = np.repeat([True, False, True, False], [30, 10, 20, 40])
    assert choose_threshold(logits, toxic, 0.8) == 1.5  # 30 of 40 at 3 is below, 50 of 60 at 2 is not
    assert choose_threshold(logits, toxic, 0.9) == 3.5
    assert choose_threshold(logits, toxic, 0.5) == 1.0  # 50 of all 100


def test_rows_that_tie_are_flagged_together():
    # 20 of 25 rows at the top are toxic; one could only reach 0.9 by telling equal rows apart.
    logits, toxic = np.repeat([1.0, 0.0], [25, 75]), np.arange(100) < 20
    assert choose_threshold(logits, toxic, 0.8) == 0.5
    assert choose_threshold(logits, toxic, 0.9) is None


def test_a_lucky_few_at_the_top_are_no_threshold():
    logits = np.arange(200.0)
    toxic = np.arange(200) >= 200 - MINIMUM_FLAGGED_ROWS + 1
    assert choose_threshold(logits, toxic, 0.96) is None
    toxic[200 - MINIMUM_FLAGGED_ROWS] = True
    assert choose_threshold(logits, toxic, 0.96) == 200 - MINIMUM_FLAGGED_ROWS - 0.5


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_between_neighbouring_floats(dtype):
    low = dtype(1.0)
    high = np.nextafter(low, dtype(2.0))
    for below, above in ((low, high), (high, np.nextafter(high, dtype(2.0)))):
        logits = np.repeat(np.array([above, below]), [30, 70])
        toxic = np.arange(100) < 30
        threshold = choose_threshold(logits, toxic, 0.9)
        expected = {"precision": 1.0, "recall": 1.0, "flagged": 0.3}
        assert precision_and_recall(logits, toxic, threshold) == expected


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=MINIMUM_FLAGGED_ROWS, max_size=80),
    st.sampled_from([0.5, 0.8, 0.9, 0.95]),
)
def test_against_the_definition_taken_literally(rows, target):
    logits, toxic = map(np.array, zip(*rows, strict=True))
    expected, threshold = slow_threshold(logits, toxic, target), choose_threshold(logits, toxic, target)
    assert (threshold is None) == (expected is None)
    if threshold is not None:
        assert (logits >= threshold).tolist() == (logits >= expected).tolist()
        assert precision_and_recall(logits, toxic, threshold)["precision"] >= target


def test_precision_and_recall_worked_by_hand():
    logits, toxic = np.array([3.0, 2.0, 1.0, 0.0, -1.0]), np.array([True, False, True, True, False])
    assert precision_and_recall(logits, toxic, 1.0) == {"precision": 2 / 3, "recall": 2 / 3, "flagged": 3 / 5}
    assert precision_and_recall(logits, toxic, 3.5) == {"precision": None, "recall": 0.0, "flagged": 0.0}
