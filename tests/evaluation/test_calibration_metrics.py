import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss
from sklearn.metrics import log_loss as sklearn_log_loss

from toxicity.evaluation.calibration_metrics import (
    BINS,
    brier_score,
    expected_calibration_error,
    log_loss,
    reliability_bins,
)


def logit(probability):
    return np.log(probability) - np.log1p(-np.array(probability))


def test_worked_by_hand():
    # A toxic row at 3/4 and a civil one at 1/2.
    logits, toxic = logit([0.75, 0.5]), np.array([True, False])
    assert log_loss(logits, toxic) == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)
    assert brier_score(logits, toxic) == pytest.approx((1 / 16 + 1 / 4) / 2)
    assert expected_calibration_error(logits, toxic) == pytest.approx((1 / 4 + 1 / 2) / 2)


def test_rows_of_one_bin_are_averaged_before_they_are_compared():
    # Four rows at 0.62, in the bin from 9/15 to 10/15: three toxic. One at 0.02, civil.
    logits, toxic = logit([0.62, 0.62, 0.62, 0.62, 0.02]), np.array([True, True, False, True, False])
    bins = reliability_bins(logits, toxic)
    assert bins.rows.tolist() == [1, 4]
    assert bins.mean_score == pytest.approx([0.02, 0.62])
    assert bins.toxic_share == pytest.approx([0.0, 0.75])
    assert expected_calibration_error(logits, toxic) == pytest.approx((4 * 0.13 + 0.02) / 5)


def test_the_surest_rows_cost_what_they_should():
    logits, toxic = np.array([800.0, -800.0], dtype=np.float32), np.array([False, True])
    assert log_loss(logits, toxic) == 800.0
    assert log_loss(-logits, toxic) == 0.0
    assert brier_score(logits, toxic) == 1.0
    assert expected_calibration_error(logits, toxic) == 1.0
    assert expected_calibration_error(-logits, toxic) == 0.0


def test_float32_logits_are_worked_in_float64():
    logits = np.full(3, 0.1, dtype=np.float32)
    assert log_loss(logits, np.ones(3, dtype=bool)) == math.log1p(math.exp(-float(np.float32(0.1))))


def test_probabilities_that_are_right_have_hardly_an_error():
    rng = np.random.default_rng(0)
    scores = rng.beta(0.3, 2.0, 200_000)
    assert expected_calibration_error(logit(scores), rng.random(len(scores)) < scores) < 0.003


@given(st.lists(st.tuples(st.floats(-30, 30), st.booleans()), min_size=1, max_size=60))
def test_against_the_definition_taken_literally(rows):
    bins = [[] for _ in range(BINS)]
    for value, toxic in rows:
        score = 1 / (1 + math.exp(-value))
        bins[min(int(score * BINS), BINS - 1)].append((score, toxic))
    expected = 0.0
    for members in filter(None, bins):
        mean_score = sum(score for score, _ in members) / len(members)
        share = sum(toxic for _, toxic in members) / len(members)
        expected += len(members) / len(rows) * abs(mean_score - share)
    logits, labels = map(np.array, zip(*rows, strict=True))
    assert expected_calibration_error(logits, labels) == pytest.approx(expected, abs=1e-9)


def test_against_scikit_learn():
    rng = np.random.default_rng(0)
    for _ in range(100):
        logits, toxic = rng.normal(0, 3, 200), rng.random(200) < 0.3
        scores = 1 / (1 + np.exp(-logits))
        assert log_loss(logits, toxic) == pytest.approx(sklearn_log_loss(toxic, scores))
        assert brier_score(logits, toxic) == pytest.approx(brier_score_loss(toxic, scores))
