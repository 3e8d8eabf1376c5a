import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from toxicity.report.curves import POINTS, precision_recall_points, roc_points, smoothed, thinned


@pytest.fixture(scope="module")
def half_a_million():
    rng = np.random.default_rng(0)
    toxic = rng.random(500_000) < 0.08
    return toxic, rng.normal(3.0 * toxic, 1.0).astype(np.float32)


def test_half_a_million_rows_become_few_points_of_the_same_curve(half_a_million):
    toxic, logits = half_a_million
    false_positives, true_positives = roc_points(toxic, logits)
    assert len(false_positives) <= POINTS
    assert (false_positives[0], true_positives[0], false_positives[-1], true_positives[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(true_positives, false_positives) == pytest.approx(roc_auc_score(toxic, logits), abs=1e-5)

    recall, precision = precision_recall_points(toxic, logits)
    assert len(recall) <= POINTS
    area = -np.sum(np.diff(recall) * precision[:-1])
    assert area == pytest.approx(average_precision_score(toxic, logits), abs=1e-3)


def test_small_curves_are_left_whole():
    x, y = roc_points(np.array([False, True]), np.array([0.0, 1.0]))
    assert (x.tolist(), y.tolist()) == ([0, 0, 1], [0, 1, 1])


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=3, max_size=60), st.integers(2, 10))
def test_thinning_keeps_both_ends_and_the_order(points, kept):
    x, y = np.array(points).T
    places = np.arange(len(x), dtype=float)
    thin_places, thin_y = thinned(places, y, kept)
    assert len(thin_places) == len(thin_y) <= max(kept, 2)
    assert thin_places[0] == 0
    assert thin_places[-1] == len(x) - 1
    assert (np.diff(thin_places) > 0).all()
    np.testing.assert_array_equal(thin_y, y[thin_places.astype(int)])


def test_smoothing_is_a_running_mean():
    values = np.array([3.0, 0.0, 3.0, 6.0, 0.0])
    np.testing.assert_allclose(smoothed(values), [1.5, 2.0, 3.0, 3.0, 3.0])
    rng = np.random.default_rng(0)
    noise = rng.normal(size=400)
    np.testing.assert_allclose(smoothed(noise)[200], noise[190:211].mean())
    assert smoothed(np.array([7.0])).tolist() == [7.0]
