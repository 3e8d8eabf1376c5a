import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toxicity.evaluation.calibration import MINIMUM_FLAGGED_ROWS, choose_threshold, precision_and_recall


def slow_threshold(logits, toxic, target):
    """The lowest logit from which on enough rows are flagged, toxic in the wanted share."""
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
