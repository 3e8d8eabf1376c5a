"""What other writing does to scores, against scikit-learn, and judging comments of another source."""

import json

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, log_loss, precision_score, recall_score, roc_auc_score

from toxicity.core.rewriting import REWRITINGS, rewrite
from toxicity.evaluation.calibration import Calibration
from toxicity.evaluation.other_comments import judge_others
from toxicity.evaluation.robustness import draw_rows, measure_robustness

TEXTS = [f"comment {number} about the gardens of somebody" for number in range(60)]
TARGETS = np.array([0.6 if number % 3 == 0 else 0.2 for number in range(60)])


def score_of(text):
    """A score that other writing changes: the share of small letters, and a bit of the number in it."""
    return sum(map(str.islower, text)) / (2 * len(text)) + (len(text) * 7 % 11) / 100


def scores_of(texts):
    return np.array([*map(score_of, texts)])


def test_changes_are_those_of_scikit_learn():
    before = scores_of(TEXTS)
    calls = []

    def score(texts):
        calls.append(texts)
        return scores_of(texts)

    found = measure_robustness(score, TEXTS, before, TARGETS, 0.45, seed=3)
    assert len(calls) == 1
    toxic = TARGETS >= 0.5
    assert found["rows"] == 60
    assert found["auc"] == pytest.approx(roc_auc_score(toxic, before), abs=1e-12)
    assert found["flagged"] == (before >= 0.45).mean()
    assert list(found["rewritings"]) == list(REWRITINGS)
    for name, row in found["rewritings"].items():
        after = scores_of([rewrite(text, name, 3) for text in TEXTS])
        assert row["rate"] == REWRITINGS[name].rate
        assert row["auc"] == pytest.approx(roc_auc_score(toxic, after), abs=1e-12)
        assert row["auc_change"] == row["auc"] - found["auc"]
        assert row["flagged"] == (after >= 0.45).mean()
        assert row["flagged_change"] == row["flagged"] - found["flagged"]
    assert found["rewritings"]["capitals"]["flagged"] == 0
    assert json.loads(json.dumps(found)) == found


def test_of_one_class_only_the_share_flagged_is_known():
    found = measure_robustness(scores_of, TEXTS, scores_of(TEXTS), np.zeros(60), 0.45, seed=3)
    assert found["auc"] is None
    assert {row["auc_change"] for row in found["rewritings"].values()} == {None}
    assert found["rewritings"]["capitals"]["flagged_change"] == -found["flagged"]


def test_scores_that_are_no_numbers_are_told(caplog):
    def score(texts):
        return np.where(np.arange(len(texts)) == 5, np.nan, 0.5)

    assert measure_robustness(score, TEXTS, scores_of(TEXTS), TARGETS, 0.5, seed=3) is None
    assert "1 of 480 scores are not finite" in caplog.text


def test_rows_are_drawn_by_the_seed_from_those_with_a_target():
    targets = np.where(np.arange(100) % 2, 1.0, np.nan)
    rows = draw_rows(targets, 10, 5)
    assert len(set(rows.tolist())) == 10
    assert (rows == np.sort(rows)).all()
    assert (rows % 2 == 1).all()
    assert (draw_rows(targets, 10, 5) == rows).all()
    assert (draw_rows(targets, 10, 6) != rows).any()
    assert draw_rows(targets, 1000, 5).tolist() == list(range(1, 100, 2))
    assert not len(draw_rows(targets, 0, 5))


def others(rows=300, seed=0):
    rng = np.random.default_rng(seed)
    targets = (rng.random((rows, 2)) < 0.3).astype(float)
    targets[::7, 1] = np.nan
    return rng.normal(3 * np.nan_to_num(targets) - 1.5, 1.5).astype(np.float32), targets


def test_comments_of_others_are_judged_with_the_calibration_of_the_run():
    logits, targets = others()
    calibrations = {"toxic": Calibration(1.7, 0.6, 0.9), "threat": Calibration(0.8, 0.3)}
    found = judge_others(logits, targets, calibrations)
    assert {name: found[name] for name in found["labels"]["toxic"]} == found["labels"]["toxic"]
    for place, (name, calibration) in enumerate(calibrations.items()):
        section = found["labels"][name]
        rows = ~np.isnan(targets[:, place])
        truth, scores = targets[rows, place], logits[rows, place].astype(float)
        probability = 1 / (1 + np.exp(-scores / calibration.temperature))
        flagged = probability >= calibration.threshold
        assert (section["rows"], section["positives"]) == (rows.sum(), truth.sum())
        assert section["auc"] == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
        assert section["auc_interval"][0] < section["auc"] < section["auc_interval"][1]
        assert section["average_precision"] == pytest.approx(average_precision_score(truth, scores), abs=1e-12)
        assert section["log_loss"] == pytest.approx(log_loss(truth, probability), abs=1e-12)
        assert section["precision"] == pytest.approx(precision_score(truth, flagged))
        assert section["recall"] == pytest.approx(recall_score(truth, flagged))
        assert section["flagged"] == flagged.mean()
        assert section["threshold"] == calibration.threshold
        assert section["undefined"] == {}
    assert json.loads(json.dumps(found)) == found
    assert "labels" not in judge_others(logits[:, :1], targets[:, :1], {"toxic": Calibration()})


NOTHING = dict.fromkeys(("auc", "average_precision", "recall"))


@pytest.mark.parametrize(
    ("logits", "targets", "expected"),
    [
        ([0.0, 1.0], [0, 0], NOTHING | {"rows": 2, "flagged": 1.0, "precision": 0.0}),
        ([-1.0, -2.0], [0, 0], NOTHING | {"rows": 2, "flagged": 0.0, "precision": None}),
        ([-1.0, -2.0], [np.nan] * 2, NOTHING | {"rows": 0, "flagged": None, "precision": None, "log_loss": None}),
        ([np.nan, 2.0], [0, 1], NOTHING | {"rows": 2, "flagged": None, "precision": None, "log_loss": None}),
    ],
)
def test_what_is_not_defined_is_none_with_a_reason(logits, targets, expected):
    found = judge_others(np.array(logits)[:, None], np.array(targets, float)[:, None], {"toxic": Calibration()})
    assert {name: found[name] for name in expected} == expected
    assert "auc" in found["undefined"]
    json.dumps(found, allow_nan=False)
