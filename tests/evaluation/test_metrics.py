import json
import math

import evaluate
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from toxicity.core.schema import IDENTITIES
from toxicity.evaluation.metrics import ToxicityMetric


def compute(predictions, references, **extra):
    return ToxicityMetric().compute(predictions=np.array(predictions), references=np.array(references), **extra)


def auc(predictions, references):
    return compute(predictions, references)["auc"]


def many_rows(rows=600):
    """Logits, targets and nine identities, annotated on every other row."""
    rng = np.random.default_rng(0)
    targets = rng.random(rows)
    identities = {name: np.where(np.arange(rows) % 2 == 0, rng.choice([0.0, 0.5], rows), np.nan) for name in IDENTITIES}
    return targets + rng.normal(0.0, 0.3, rows), targets, identities


def nulls(result, path=""):
    """Dotted paths of all values that are None, except `bias` if it was not requested (it then has no reason)."""
    found = set()
    for name, value in result.items():
        if isinstance(value, dict) and name != "undefined":
            found |= nulls(value, f"{path}{name}.")
        elif value is None and (name != "bias" or name in result["undefined"]):
            found.add(path + name)
    return found


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
    assert metric.compute()["auc"] == 1.0
    assert metric.compute(predictions=[0.1, 0.9], references=[1.0, 0.0])["auc"] == 0.0
    metric.add(prediction=0.5, reference=1.0)
    metric.add_batch(predictions=torch.tensor([0.5]), references=torch.tensor([0.0]))
    assert metric.compute()["auc"] == 0.5


def test_the_result_of_four_rows_worked_by_hand():
    result = compute([0.0, math.log(3), 0.0, -math.log(3)], [1.0, 0.5, 0.4, 0.0])
    # Scores 1/2, 3/4 (toxic), 1/2, 1/4 (civil): 3 pairs won, a tie; precision 1 and 2/3, half of the recall each.
    assert result == {
        "auc": 3.5 / 4,
        "auc_interval": None,
        "average_precision": pytest.approx((1 + 2 / 3) / 2),
        "log_loss": pytest.approx((2 * math.log(2) + 2 * math.log(4 / 3)) / 4),
        "brier_score": pytest.approx((2 / 4 + 2 / 16) / 4),
        "expected_calibration_error": pytest.approx((0 + 1 / 4 + 1 / 4) / 4),
        "bias": None,
        "undefined": {"auc_interval": "2 toxic rows, fewer than 10"},
    }


def test_all_of_it_on_rows_with_identities():
    logits, targets, identities = many_rows()
    result = compute(logits, targets, identities=identities)
    assert result["undefined"] == {}
    low, high = result["auc_interval"]
    assert low < result["auc"] < high
    assert list(result["bias"]["identities"]) == list(IDENTITIES)
    assert result["bias"]["identities_counted"] == 9
    means = [result["bias"][cell] for cell in ("subgroup_auc", "bpsn_auc", "bnsp_auc")]
    assert result["bias"]["final_score"] == pytest.approx(np.mean([result["auc"], *means]))
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_rows_without_annotation_are_background():
    logits, targets, identities = many_rows()
    zeros = {name: np.nan_to_num(target) for name, target in identities.items()}
    assert compute(logits, targets, identities=identities) == compute(logits, targets, identities=zeros)


def test_identities_that_nobody_annotated_are_no_identities():
    logits, targets, _ = many_rows()
    result = compute(logits, targets, identities={"male": np.full(len(logits), np.nan)})
    assert result["bias"] is None
    assert result["undefined"] == {"bias": "no row has its identities annotated"}
    assert compute(logits, targets, identities={})["undefined"] == {}


def test_one_class_leaves_what_needs_no_order():
    result = compute([-1.0] * 20, [0.0] * 20, identities={"male": np.ones(20)})
    assert nulls(result) == set(result["undefined"])
    assert result["undefined"]["auc"] == "all 20 rows are civil"
    assert result["log_loss"] == pytest.approx(math.log1p(math.exp(-1)))
    assert result["bias"]["identities"]["male"]["rows"] == 20


@pytest.mark.parametrize("swapped", [False, True])
def test_a_ranking_without_a_mistake_has_no_interval(swapped):
    targets = np.arange(40) >= 20
    result = compute(np.arange(40.0), targets != swapped)
    assert result["auc"] == float(not swapped)
    assert result["auc_interval"] is None
    assert "variance is 0" in result["undefined"]["auc_interval"]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logits_of_a_model_that_diverged_are_told_not_scored(bad):
    logits, targets, identities = many_rows()
    logits[3] = bad
    result = compute(logits, targets, identities=identities)
    assert result["undefined"].keys() == nulls(result)
    assert set(result["undefined"].values()) == {f"1 of {len(logits)} logits are not finite"}
    assert all(value is None for name, value in result.items() if name != "undefined")


def test_no_rows_are_undefined():
    result = compute([], [])
    assert result["undefined"].keys() == nulls(result)
    assert set(result["undefined"].values()) == {"there are no rows"}


@pytest.mark.parametrize(
    ("references", "extra", "message"),
    [
        ([0.0, np.nan], {}, "1 of 2 targets are NaN"),
        ([0.0], {}, "Mismatch"),
        ([0.0, 1.0], {"identities": {"male": [0.0]}}, "male has the shape"),
    ],
)
def test_rows_that_do_not_fit_are_refused(references, extra, message):
    with pytest.raises(ValueError, match=message):
        compute([0.0, 1.0], references, **extra)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(-3, 3), st.sampled_from([0.0, 0.5]), st.sampled_from([0.0, 0.5, math.nan])),
        min_size=1,
        max_size=60,
    )
)
def test_whatever_is_null_has_a_reason_and_nothing_else_has(rows):
    logits, targets, identity = (np.array(column) for column in zip(*rows, strict=True))
    result = compute(logits, targets, identities={"male": identity})
    assert nulls(result) == set(result["undefined"])
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_no_digit_is_lost_on_the_way_through_arrow():
    class Arrays(ToxicityMetric):
        def _compute(self, predictions, references):
            return {"logits": predictions.to_numpy(), "targets": references.to_numpy()}

    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=5000).astype(np.float32), rng.random(5000)
    result = Arrays().compute(predictions=logits, references=targets)
    assert result["logits"].dtype == result["targets"].dtype == np.float64
    assert np.array_equal(result["logits"], logits)
    assert np.array_equal(result["targets"], targets)


def test_the_metric_keeps_to_the_folder_of_the_tokens(tmp_path, cache_dir, monkeypatch):
    (tmp_path / "home").touch()  # so that no folder can be made in it
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", tmp_path / "home" / "metrics")
    assert ToxicityMetric().compute(predictions=[0.0, 1.0], references=[0.0, 1.0])["auc"] == 1.0
