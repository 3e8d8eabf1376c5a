import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from toxicity.metrics import ToxicityMetric


def auc(predictions, references):
    return ToxicityMetric().compute(predictions=np.array(predictions), references=np.array(references))["auc"]


def test_share_of_pairs_in_the_right_order():
    # Toxic 0.9 beats both civil ones, toxic 0.4 beats one of two: 3 of 4 pairs.
    assert auc([0.9, 0.4, 0.5, 0.1], [1, 1, 0, 0]) == 0.75


def test_a_tie_counts_half():
    assert auc([0.5, 0.5], [1, 0]) == 0.5


def test_a_target_of_one_half_is_toxic():
    assert auc([1.0, 0.0], [0.5, 0.4999]) == 1.0


def test_one_class_only_is_undefined_not_one_half():
    assert auc([0.1, 0.9], [0, 0]) is None


def test_logits_a_bit_apart_are_not_ties():
    logits = np.array([40.0, np.nextafter(40.0, 41.0)])
    assert auc(logits, [0, 1]) == 1.0


@pytest.mark.parametrize("seed", range(5))
def test_against_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    scores, labels = rng.integers(0, 20, 500) / 7, rng.integers(0, 2, 500)
    assert auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-15)


def test_it_is_an_evaluate_metric_that_can_be_used_again():
    metric = ToxicityMetric()
    metric.add_batch(predictions=[0.9, 0.1], references=[1.0, 0.0])
    assert metric.compute() == {"auc": 1.0}
    assert metric.compute(predictions=[0.1, 0.9], references=[1.0, 0.0]) == {"auc": 0.0}
