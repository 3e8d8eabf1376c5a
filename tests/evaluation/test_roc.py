import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from toxicity.evaluation.roc import (
    auc_interval,
    auc_of_counts,
    average_precision,
    count_by_score,
    delong_standard_error,
    score_ranks,
    why_undefined,
)


def counts(scores, labels):
    return count_by_score(score_ranks(np.array(scores, dtype=float)), np.array(labels) == 0)


def wins(toxic_score, civil_score):
    """The value of a pair in the definition of the AUC: 1 in the right order, 1/2 for a tie."""
    return float(toxic_score > civil_score) + 0.5 * float(toxic_score == civil_score)


def test_ranks_number_the_distinct_scores():
    assert score_ranks(np.array([0.5, -1.0, 0.5, 7.0])).tolist() == [1, 0, 1, 2]


def test_rows_are_counted_by_score_and_group():
    ranks, groups = np.array([1, 0, 1, 2]), np.array([2, 0, 2, 0])
    assert count_by_score(ranks, groups, 3).tolist() == [[1, 0, 1], [0, 0, 0], [0, 2, 0]]
    toxic, civil = count_by_score(ranks, np.array([False, False, True, True]))
    assert (toxic.tolist(), civil.tolist()) == ([1, 1, 0], [0, 1, 1])
    assert count_by_score(np.array([], dtype=int), np.array([], dtype=bool)).shape == (2, 0)


@pytest.mark.parametrize(
    ("toxic_rows", "civil_rows", "minimum", "reason"),
    [
        (1, 1, 1, None),
        (10, 10, 10, None),
        (0, 0, 1, "there are no rows"),
        (0, 2_000, 1, "all 2,000 rows are civil"),
        (20, 0, 1, "all 20 rows are toxic"),
        (3, 500, 10, "3 toxic rows, fewer than 10"),
        (500, 0, 10, "0 civil rows, fewer than 10"),
    ],
)
def test_why_there_is_no_auc(toxic_rows, civil_rows, minimum, reason):
    assert why_undefined(np.array([toxic_rows]), np.array([civil_rows]), minimum) == reason


def test_auc_and_its_error_worked_by_hand():
    # Toxic 0.9 beats both civil rows, 0.4 one of two: shares 1 and 1/2, mean 3/4, variance 1/8. Civil 0.5 is beaten
    # by one of two, 0.1 by both: the same. 1/8 / 2 + 1/8 / 2 = 1/8.
    toxic, civil = counts([0.9, 0.4, 0.5, 0.1], [1, 1, 0, 0])
    assert auc_of_counts(toxic, civil) == 0.75
    assert delong_standard_error(toxic, civil) == pytest.approx(np.sqrt(1 / 8))


def test_a_tie_counts_half_in_both():
    # Shares of the toxic rows 1/4 (a tie and a loss) and 1; of the civil rows 3/4 and 1/2.
    toxic, civil = counts([0.4, 0.9, 0.4, 0.8], [1, 1, 0, 0])
    assert auc_of_counts(toxic, civil) == 0.625
    assert delong_standard_error(toxic, civil) ** 2 == pytest.approx((2 * 0.375**2 + 2 * 0.125**2) / 2)


def test_the_interval_that_proc_publishes():
    # The WFNS grades 1 to 5 of the 41 patients with a poor and the 72 with a good outcome in pROC's data set aSAH:
    # "Area under the curve: 0.8237, 95% CI: 0.7485-0.8988 (DeLong)".
    poor, good = np.array([2, 12, 1, 8, 18]), np.array([37, 20, 3, 8, 4])
    low, high = auc_interval(poor, good)
    assert (round(auc_of_counts(poor, good), 4), round(low, 4), round(high, 4)) == (0.8237, 0.7485, 0.8988)


def test_the_interval_stays_within_0_and_1():
    toxic, civil = counts([3, 4, 5, 1, 2, 3], [1, 1, 1, 0, 0, 0])
    assert auc_interval(toxic, civil)[1] == 1.0
    assert auc_interval(civil, toxic)[0] == 0.0


def test_19_of_20_intervals_hold_the_true_auc():
    rng = np.random.default_rng(0)
    # Toxic logits one unit higher, both normal: AUC = Φ(1/√2).
    true_auc, held = 0.7602499389065234, 0
    for _ in range(1000):
        scores = np.r_[rng.normal(1.0, 1.0, 60), rng.normal(0.0, 1.0, 120)]
        low, high = auc_interval(*counts(scores, np.r_[np.ones(60), np.zeros(120)]))
        held += low <= true_auc <= high
    assert 0.93 < held / 1000 < 0.97


def test_more_pairs_than_32_bits_hold():
    scores = np.repeat([0.0, 1.0], 100_000)
    labels = np.tile([0, 1], 100_000)
    assert auc_of_counts(*counts(scores, labels)) == 0.5


def test_average_precision_worked_by_hand():
    # From the top: toxic (precision 1), civil, toxic (2/3); each adds half of the recall.
    assert average_precision(*counts([4, 3, 2, 1], [1, 0, 1, 0])) == pytest.approx((1 + 2 / 3) / 2)


@given(st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=4, max_size=40))
def test_against_the_definitions_taken_literally(rows):
    toxic_scores = [score for score, toxic in rows if toxic]
    civil_scores = [score for score, toxic in rows if not toxic]
    if len(toxic_scores) < 2 or len(civil_scores) < 2:
        return
    table = [[wins(toxic, civil) for civil in civil_scores] for toxic in toxic_scores]
    by_toxic = [np.mean(line) for line in table]
    by_civil = [np.mean(line) for line in zip(*table, strict=True)]
    variance = np.var(by_toxic, ddof=1) / len(by_toxic) + np.var(by_civil, ddof=1) / len(by_civil)
    toxic, civil = counts([score for score, _ in rows], [label for _, label in rows])
    assert auc_of_counts(toxic, civil) == pytest.approx(np.mean(table), abs=1e-12)
    assert delong_standard_error(toxic, civil) == pytest.approx(np.sqrt(variance), abs=1e-12)

    precision = 0.0
    for threshold in sorted(set(toxic_scores)):
        hits = sum(score >= threshold for score in toxic_scores)
        false_alarms = sum(score >= threshold for score in civil_scores)
        added = toxic_scores.count(threshold) / len(toxic_scores)
        precision += added * hits / (hits + false_alarms)
    assert average_precision(toxic, civil) == pytest.approx(precision, abs=1e-12)


def test_against_scikit_learn_on_1000_draws_with_ties():
    rng = np.random.default_rng(0)
    for draw in range(1000):
        rows = int(rng.integers(5, 300))
        labels = rng.integers(0, 2, rows)
        labels[:2] = 0, 1
        scores = rng.integers(0, int(rng.integers(1, 60)), rows) / 7 + labels * rng.choice([0.0, 1.0])
        toxic, civil = counts(scores, labels)
        assert auc_of_counts(toxic, civil) == pytest.approx(roc_auc_score(labels, scores), abs=1e-14), draw
        expected = average_precision_score(labels, scores)
        assert average_precision(toxic, civil) == pytest.approx(expected, abs=1e-14), draw
