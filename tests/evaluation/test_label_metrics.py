import json
import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

from toxicity.core.schema import IDENTITIES, SUBTYPES
from toxicity.core.wanted import Wanted
from toxicity.evaluation.bias import CELLS, power_mean
from toxicity.evaluation.calibration import Calibration, calibrate
from toxicity.evaluation.label_metrics import judge_labels, label_aucs
from toxicity.evaluation.metrics import ToxicityMetric
from toxicity.evaluation.roc import MINIMUM_CLASS_ROWS

LABELS_2018 = ("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate")
LABELS_2019 = ("toxicity", *SUBTYPES)
NOT_OF_THE_METRIC = ("rows", "positives", "calibration")


def shaped_2018(rows, rng):
    """Six hard labels, all of a row or none of them known; logits with ties."""
    positive = rng.random((rows, 6)) < (0.4, 0.05, 0.2, 0.02, 0.2, 0.1)
    targets = np.where(rng.random((rows, 1)) < 0.1, np.nan, positive.astype(float))
    return (rng.normal(size=(rows, 6)) + 2 * positive).round(1).astype(np.float32), targets, {}


def shaped_2019(rows, rng):
    """Seven shares of few annotators, of which one may be missing, and identities of half of the rows."""
    targets = rng.binomial(10, rng.beta(0.3, 0.7, (rows, 7))) / 10
    logits = (rng.normal(0, 1.5, (rows, 7)) + 5 * targets - 3).astype(np.float32)
    targets[rng.random((rows, 7)) < 0.2] = np.nan
    annotated = rng.random(rows) < 0.5
    shares = {name: rng.choice([0.0, 0.4, 0.5, 1.0], rows) for name in IDENTITIES}
    return logits, targets, {name: np.where(annotated, share, np.nan) for name, share in shares.items()}


def one_class(logits, targets, identities):
    """The same with a last label that no row has, and one before it that every row has."""
    targets = targets.copy()
    targets[:, -1] *= 0.0
    targets[:, -2] = targets[:, -2] * 0.0 + 1.0
    return logits, targets, identities


def judge(logits, targets, names, identities=None, seed=0):
    return judge_labels(np.float32(logits), np.asarray(targets, dtype=float), names, identities or {}, seed)


def sklearn_metrics(logits, toxic):
    """What scikit-learn says of one label, from the probabilities."""
    logits = logits.astype(np.float64)
    scores = 1 / (1 + np.exp(-logits))
    both = len(set(toxic)) == 2
    return {
        "auc": roc_auc_score(toxic, logits) if both else None,
        "average_precision": average_precision_score(toxic, logits) if both else None,
        "log_loss": log_loss(toxic, scores, labels=[False, True]) if len(toxic) else None,
        "brier_score": brier_score_loss(toxic, scores, pos_label=True) if len(toxic) else None,
    }


def sklearn_bias_aucs(logits, toxic, identity):
    within, aucs = identity >= 0.5, {}
    for cell, members in zip(CELLS, (within, within != toxic, within == toxic), strict=True):
        enough = min(toxic[members].sum(), (~toxic[members]).sum()) >= MINIMUM_CLASS_ROWS
        aucs[cell] = roc_auc_score(toxic[members], logits[members]) if enough else None
    return aucs


def near(expected):
    if isinstance(expected, dict):
        return {name: near(value) for name, value in expected.items()}
    return None if expected is None else pytest.approx(expected, rel=0, abs=1e-9)


@pytest.mark.parametrize("rows", [60, 61, 200, 1000, 5000])
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("change", [lambda *data: data, one_class], ids=["", "one class"])
@pytest.mark.parametrize(("make", "names"), [(shaped_2018, LABELS_2018), (shaped_2019, LABELS_2019)])
def test_every_figure_is_that_of_scikit_learn(make, names, rows, seed, change):
    logits, targets, identities = change(*make(rows, np.random.default_rng(seed)))
    metrics, _ = judge(logits, targets, names, identities, seed)
    assert list(metrics["labels"]) == list(names)
    aucs = []
    for column, (name, found) in enumerate(metrics["labels"].items()):
        known = ~np.isnan(targets[:, column])
        scores, toxic = logits[known, column], targets[known, column] >= 0.5
        expected = sklearn_metrics(scores, toxic)
        assert {key: found[key] for key in expected} == near(expected), name
        assert (found["rows"], found["positives"]) == (known.sum(), toxic.sum())
        aucs += [expected["auc"]] if expected["auc"] is not None else []
        if not identities:
            assert found["bias"] is None
            continue
        table = {key: sklearn_bias_aucs(scores, toxic, share[known]) for key, share in identities.items()}
        assert cells_of(found["bias"]) == near(table), name
        counted = [row for row in table.values() if None not in row.values()]
        assert found["bias"]["identities_counted"] == len(counted)
        if counted and expected["auc"] is not None:
            means = [power_mean([row[cell] for row in counted]) for cell in CELLS]
            assert found["bias"]["final_score"] == near(np.mean([expected["auc"], *means]))
    assert metrics["mean_auc"] == near(np.mean(aucs))
    assert metrics["mean_auc_labels"] == len(aucs)
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def cells_of(bias):
    return {name: {cell: row[cell] for cell in CELLS} for name, row in bias["identities"].items()}


@pytest.mark.parametrize("make", [shaped_2018, shaped_2019])
def test_the_mean_is_that_over_columns(make):
    logits, targets, _ = make(2000, np.random.default_rng(3))
    known = ~np.isnan(targets).any(axis=1)
    logits, targets = logits[known], targets[known]
    names = [str(column) for column in range(logits.shape[1])]
    assert judge(logits, targets, names)[0]["mean_auc"] == near(roc_auc_score(targets >= 0.5, logits, average="macro"))


@pytest.mark.parametrize("with_identities", [True, False])
def test_one_label_has_the_numbers_that_it_always_had(with_identities):
    logits, targets, identities = shaped_2019(1001, np.random.default_rng(0))
    targets = np.nan_to_num(targets[:, :1])
    identities = identities if with_identities else {}
    metrics, calibrations = judge(logits[:, :1], targets, ("toxicity",), identities, seed=5)
    found = metrics.pop("labels")
    assert metrics == ToxicityMetric().compute(
        predictions=logits[:, 0], references=targets[:, 0], identities=identities
    )
    fitted = calibrate(logits[:, 0], targets[:, 0], seed=5)
    (calibration,) = calibrations.values()
    assert calibration.measured == fitted.measured
    assert np.array_equal(calibration.cross_fitted, fitted.cross_fitted)
    counts = {"rows": 1001, "positives": int((targets >= 0.5).sum())}
    assert found == {"toxicity": counts | metrics | {"calibration": fitted.measured}}


def test_the_main_label_is_at_the_top():
    logits, targets, identities = shaped_2019(1000, np.random.default_rng(0))
    metrics, calibrations = judge(logits, targets, LABELS_2019, identities)
    main = metrics["labels"]["toxicity"]
    assert {name: metrics[name] for name in main if name not in NOT_OF_THE_METRIC} == {
        name: value for name, value in main.items() if name not in NOT_OF_THE_METRIC
    }
    assert list(calibrations) == list(LABELS_2019)
    assert {name: calibrations[name].measured for name in LABELS_2019} == {
        name: metrics["labels"][name]["calibration"] for name in LABELS_2019
    }


def test_a_label_is_judged_on_the_rows_that_have_it_or_not():
    logits, targets, identities = shaped_2019(2000, np.random.default_rng(1))
    metrics, calibrations = judge(logits, targets, LABELS_2019, identities, seed=2)
    for column, name in enumerate(LABELS_2019):
        known = np.flatnonzero(~np.isnan(targets[:, column]))
        alone, fitted = judge(
            logits[known, column, None],
            targets[known, column, None],
            (name,),
            {identity: share[known] for identity, share in identities.items()},
            seed=2,
        )
        assert metrics["labels"][name] == alone["labels"][name]
        assert np.array_equal(calibrations[name].cross_fitted, fitted[name].cross_fitted)
        assert len(fitted[name].cross_fitted) == len(known)


@pytest.mark.parametrize(
    ("target", "reason", "calibrated"),
    [
        (0.0, "all 100 rows are civil", "0 toxic rows, fewer than 10"),
        (1.0, "all 100 rows are toxic", "0 civil rows, fewer than 10"),
        (np.nan, "there are no rows", "there are no rows"),
    ],
)
@pytest.mark.parametrize("main", [0, 1])
def test_a_label_that_cannot_be_judged_says_why_and_the_others_can(target, reason, calibrated, main, caplog):
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(100, 2)), np.empty((100, 2))
    targets[:, 1 - main] = np.arange(100) % 2
    targets[:, main] = target
    # So well told apart that there is nothing to say of the other label.
    logits[:, 1 - main] += 10 * targets[:, 1 - main]
    metrics, calibrations = judge(logits, targets, ("insult", "threat"))
    name, other = ("threat", "insult") if main else ("insult", "threat")
    found = metrics["labels"][name]
    for figure in ("auc", "auc_interval", "average_precision"):
        assert (found[figure], found["undefined"][figure]) == (None, reason)
    assert {key for key, value in found.items() if value is None} - {"bias", "calibration"} == set(found["undefined"])
    assert calibrations[name] == Calibration()
    assert found["calibration"] is None
    assert f"for the label `{name}`: {calibrated}" in caplog.text
    assert other not in caplog.text
    assert metrics["mean_auc"] == metrics["labels"][other]["auc"] is not None
    assert metrics["mean_auc_labels"] == 1
    assert calibrations[other].measured is not None


def test_a_label_without_a_threshold_for_labels_says_so(caplog):
    logits = np.linspace(-2.0, 2.0, 200)
    targets = np.stack([np.arange(200) % 2, logits > 0], axis=1)
    _, found = judge(np.stack([logits, logits], axis=1), targets, ("a", "b"))
    assert "Labels are given from a score of 0.5 on for the label `a`" in caplog.text
    assert "for the label `b`" not in caplog.text
    assert [calibration.precision_target for calibration in found.values()] == [None, 0.9]


def test_each_label_has_its_prior_and_all_have_the_thresholds_that_are_wanted():
    logits, targets, _ = shaped_2018(4000, np.random.default_rng(0))
    wanted, priors = [Wanted("recall", 0.5)], [None, 0.02, *[None] * (len(LABELS_2018) - 2)]
    _, found = judge_labels(np.float32(logits), targets, LABELS_2018, {}, 0, wanted, priors)
    assert [calibration.prior for calibration in found.values()] == priors
    assert all("recall=0.5" in calibration.thresholds for calibration in found.values())


@pytest.mark.parametrize("rows", [0, 40])
def test_no_label_has_an_auc(rows):
    metrics, _ = judge(np.zeros((rows, 2)), np.zeros((rows, 2)), ("a", "b"))
    assert (metrics["mean_auc"], metrics["mean_auc_labels"]) == (None, 0)
    assert metrics["undefined"]["mean_auc"] == "no label has an AUC"
    assert "mean_auc" not in metrics["labels"]["a"]["undefined"]
    nothing = dict.fromkeys(("auc", "auc_a", "auc_b", "mean_auc"))
    assert label_aucs(np.zeros((rows, 2)), np.zeros((rows, 2)), ("a", "b")) == nothing


def test_logits_that_are_not_finite_spoil_their_own_label_alone():
    logits, targets, identities = shaped_2019(300, np.random.default_rng(0))
    known = ~np.isnan(targets[:, 1])
    logits[np.flatnonzero(known)[:2], 1] = np.nan
    logits[~known, 1] = np.inf  # of rows that are not judged
    metrics, calibrations = judge(logits, targets, LABELS_2019, identities)
    spoilt = metrics["labels"]["severe_toxicity"]
    assert set(spoilt["undefined"].values()) == {f"2 of {known.sum()} logits are not finite"}
    assert calibrations["severe_toxicity"] == Calibration()
    assert metrics["mean_auc_labels"] == 6
    assert label_aucs(logits, targets, LABELS_2019)["auc_severe_toxicity"] is None


def test_aucs_and_their_mean_worked_by_hand():
    logits = np.array([[3, 0], [2, 1], [1, 2], [0, 3]])
    targets = np.array([[1, 0], [0, 0.5], [1, math.nan], [0, 0]])
    # The first label: 3 beats 2 and 0, 1 beats 0. The second: 1 beats 0, and not 3; the third row is not judged.
    assert label_aucs(logits, targets, ("rude", "spam")) == {
        "auc": 3 / 4,
        "auc_rude": 3 / 4,
        "auc_spam": 1 / 2,
        "mean_auc": 5 / 8,
    }
    assert label_aucs(logits[:, :1], targets[:, :1], ("rude",)) == {"auc": 3 / 4}


@pytest.mark.parametrize(("make", "names"), [(shaped_2018, LABELS_2018), (shaped_2019, LABELS_2019)])
def test_aucs_while_training_are_those_of_the_end(make, names):
    logits, targets, _ = one_class(*make(500, np.random.default_rng(4)))
    metrics, _ = judge(logits, targets, names)
    assert label_aucs(logits, targets.astype(np.float32), names) == {
        "auc": metrics["auc"],
        **{f"auc_{name}": found["auc"] for name, found in metrics["labels"].items()},
        "mean_auc": metrics["mean_auc"],
    }
