import json

import numpy as np
import pytest

from toxicity.core.errors import RequestError
from toxicity.core.wanted import Wanted
from toxicity.evaluation.calibration import PRECISION_TARGETS, Calibration, calibrate
from toxicity.evaluation.calibration_metrics import log_loss


def made_up(rows=4000, temperature=2.0, seed=0):
    """Logits `temperature` times too large, and labels drawn with the probabilities of the right ones."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1.0, 2.5, rows)
    return temperature * logits, (rng.random(rows) < 1 / (1 + np.exp(-logits))).astype(float)


def test_all_rows_are_used_and_measured_as_the_thresholds_flag_them():
    logits, labels = made_up()
    fitted = calibrate(logits, labels, seed=3)
    result, toxic = fitted.measured, labels == 1
    assert (result["rows"], result["base_rate"]) == (4000, toxic.mean())
    assert result["cross_validated"]["log_loss"]["before"] == log_loss(logits, toxic)
    for measured in result["cross_validated"].values():
        assert measured["after"] < measured["before"]
    for row in result["thresholds"]:
        flagged = fitted.probability(logits) >= row["threshold"]
        assert row["flagged"] == flagged.mean()
        assert row["precision"] == toxic[flagged].mean() >= row["precision_target"]
        assert row["recall"] == flagged[toxic].mean()
        # The threshold for a pipeline flags the same rows.
        assert np.array_equal(1 / (1 + np.exp(-logits)) >= row["pipeline_threshold"], flagged)


def test_thresholds_rise_with_the_precision():
    result = calibrate(*made_up(), seed=0).measured
    assert [row["precision_target"] for row in result["thresholds"]] == list(PRECISION_TARGETS)
    thresholds = [row["threshold"] for row in result["thresholds"]]
    assert thresholds == sorted(thresholds)
    assert (result["precision_target"], result["threshold"]) == (0.9, thresholds[2])


def test_a_precision_that_is_not_certified_says_so_and_is_not_in_the_config(caplog):
    rng = np.random.default_rng(0)
    result = calibrate(rng.normal(size=2000), rng.random(2000) < 0.6, seed=0).measured
    rows = {row["precision_target"]: row for row in result["thresholds"]}
    assert rows[0.5]["precision"] == pytest.approx(0.6, abs=0.05)
    for target in (0.9, 0.95):
        assert "no threshold" in rows[target].pop("reason")
        assert set(rows[target].items()) == {("precision_target", target)} | {
            (name, None) for name in ("threshold", "pipeline_threshold", "precision", "recall", "flagged")
        }
    section = Calibration.from_benchmark(result).to_config()
    assert set(section["thresholds"]) == {"0.5"}
    assert (section["threshold"], section["precision_target"]) == (0.5, None)
    assert "Labels are given from a score of 0.5 on" in caplog.text


def test_other_thresholds_are_named_by_what_they_are_for():
    wanted = [Wanted.from_name(name) for name in ("recall=0.95", "flagged=0.02", "precision=0.7", "0.9")]
    fitted = calibrate(*made_up(), seed=0, wanted=wanted)
    assert list(fitted.thresholds) == ["0.5", "0.8", "0.9", "0.95", "recall=0.95", "flagged=0.02", "0.7"]
    assert list(fitted.precision_thresholds) == ["0.5", "0.8", "0.9", "0.95", "0.7"]
    rows = dict(zip(fitted.thresholds, fitted.measured["thresholds"], strict=True))
    assert rows["recall=0.95"]["recall"] >= 0.95
    assert rows["flagged=0.02"]["flagged"] <= 0.02


def test_a_prior_moves_scores_and_certifies_thresholds_for_it():
    logits, labels = made_up(20_000)
    fitted, moved = calibrate(logits, labels, seed=0), calibrate(logits, labels, seed=0, prior=0.1)
    shift = np.log(0.1 / 0.9) - np.log(labels.mean() / (1 - labels.mean()))
    np.testing.assert_allclose(moved.scaled(logits), fitted.scaled(logits) + shift)
    assert list(moved.thresholds) == ["0.5", "0.8", "0.9"]
    for row in moved.measured["thresholds"][:3]:
        flagged, toxic = moved.probability(logits) >= row["threshold"], labels == 1
        found = 0.1 * flagged[toxic].mean(), 0.9 * flagged[~toxic].mean()
        assert row["precision"] == pytest.approx(found[0] / sum(found))
        assert row["flagged"] == pytest.approx(sum(found))
        assert row["precision"] >= row["precision_target"]
    assert Calibration.from_config(json.loads(json.dumps(moved.to_config()))).to_config() == moved.to_config()


def test_the_prior_of_a_fitted_calibration_keeps_the_labels():
    logits, labels = made_up()
    fitted = calibrate(logits, labels, seed=0)
    for moved in (fitted.for_prior(0.02), fitted.for_prior(0.3).for_prior(0.02)):
        assert moved.threshold < fitted.threshold
        assert np.array_equal(
            moved.probability(logits) >= moved.threshold, fitted.probability(logits) >= fitted.threshold
        )
        assert moved.pipeline_threshold == pytest.approx(fitted.pipeline_threshold)
        assert moved.thresholds.keys() == fitted.thresholds.keys()
    assert fitted.for_prior(fitted.base_rate).probability(logits) == pytest.approx(fitted.probability(logits))
    with pytest.raises(RequestError, match="does not have it"):
        Calibration(2.0, 0.7).for_prior(0.02)


@pytest.mark.parametrize(
    ("logits", "targets", "reason"),
    [
        (np.zeros(0), np.zeros(0), "there are no rows"),
        (np.zeros(100), np.zeros(100), "0 toxic rows, fewer than 10"),
        (np.zeros(18), np.arange(18) % 2, "9 toxic rows, fewer than 10"),
        (np.r_[np.nan, np.inf, np.zeros(98)], np.arange(100) % 2, "2 of 100 logits are not finite"),
    ],
)
def test_nothing_is_fitted_to_next_to_nothing(logits, targets, reason, caplog):
    nothing = calibrate(logits, targets, seed=0)
    assert nothing == Calibration()
    assert nothing.measured is None
    assert nothing.cross_fitted is None
    assert f"{reason}. That takes 10 comments of each class, all with finite scores, and a threshold" in caplog.text
    assert "for a precision of 0.9 at least 27 toxic ones." in caplog.text


def test_it_is_plain_json_and_what_was_written_to_the_config_is_read_back():
    fitted = calibrate(np.float32(made_up()[0]), made_up()[1], seed=0)
    assert json.loads(json.dumps(fitted.measured)) == fitted.measured
    section = json.loads(json.dumps(fitted.to_config()))
    assert section == fitted.to_config()
    assert list(section)[:4] == ["temperature", "threshold", "precision_target", "thresholds"]
    assert list(section["thresholds"]) == ["0.5", "0.8", "0.9", "0.95"]
    assert section["guarantee"].startswith("With 90 % confidence")
    read, logits = Calibration.from_config(section), made_up()[0]
    assert read.to_config() == fitted.to_config()
    assert np.array_equal(read.probability(logits), fitted.probability(logits))


def test_what_earlier_versions_wrote_is_read():
    section = {"temperature": 2.0, "threshold": 0.7, "precision_target": 0.9, "thresholds": {"0.9": 0.7}}
    read = Calibration.from_config(section)
    assert read == Calibration(2.0, 0.7, 0.9, {"0.9": 0.7})
    assert read.probability(np.array([2.0])) == 1 / (1 + np.exp(-1.0))
    assert Calibration.from_config({}) == Calibration(1.0, 0.5, None, {})


@pytest.mark.parametrize(
    "section",
    [
        {"temperature": "warm"},
        {"thresholds": [0.5]},
        {"thresholds": {"recal=0.5": 0.5}},
        {"threshold": None},
        {"method": "magic"},
        {"method": "platt", "parameters": [1.0]},
        {"method": "beta", "parameters": [1.0]},
        {"method": "isotonic"},
        {"method": "isotonic", "parameters": [1.0]},
        "no section",
    ],
)
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
