import numpy as np
import pytest
from example_run import BIAS, CALIBRATION, LOG_HISTORY, NOTHING_DEFINED, PROBE

from toxicity.report import identity_plots, plots

METRICS = {"auc": 0.96, "auc_interval": [0.95, 0.97], "average_precision": 0.8}


def scored(rows, seed=0):
    rng = np.random.default_rng(seed)
    toxic = np.arange(rows) % 10 == 0
    return toxic, rng.normal(-3 + 5 * toxic, 1.5).astype(np.float32)


SIZES = pytest.mark.parametrize("rows", [2, 11, 3000])


@SIZES
def test_roc(drawn, rows):
    assert "ROC curve, AUC 0.96000 (95 % interval 0.95000 to 0.97000)" in drawn(plots.draw_roc, *scored(rows), METRICS)
    assert "ROC curve, AUC 0.96000" in drawn(plots.draw_roc, *scored(rows), {"auc": 0.96, "auc_interval": None})


@SIZES
@pytest.mark.parametrize("calibration", [None, CALIBRATION], ids=["no thresholds", "thresholds"])
def test_precision_and_recall(drawn, rows, calibration):
    texts = drawn(plots.draw_precision_recall, *scored(rows), METRICS, calibration)
    assert "Precision and recall, average precision 0.80000" in texts
    # 0.95 is out of reach.
    thresholds = [text for text in texts if text.startswith("threshold")]
    assert thresholds == (["threshold 0.600, for precision 0.8"] if calibration else [])


@SIZES
@pytest.mark.parametrize("method", ["raw", "isotonic"])
def test_reliability(drawn, rows, method):
    toxic, logits = scored(rows)
    texts = drawn(plots.draw_reliability, toxic, logits, logits / 1.31, method)
    errors = [text for text in texts if "expected calibration error" in text]
    assert len(errors) == (1 if method == "raw" else 2)
    assert any("after (isotonic)" in text for text in texts) == (method == "isotonic")


@pytest.mark.parametrize("toxic", [True, False])
def test_reliability_of_one_class_and_of_scores_that_are_0_and_1(drawn, toxic):
    logits = np.array([-1000.0, 0.0, 1000.0])
    drawn(plots.draw_reliability, np.full(3, toxic), logits, logits / 1.31, "temperature")


def test_bias(drawn):
    texts = drawn(identity_plots.draw_bias, BIAS)
    assert {"0.9000", "0.8500", "n/a", "male\n1,234 rows, 56 toxic", "BPSN AUC", "power mean"} <= texts
    assert "AUC by identity. Final score, over 8 of 9 identities: 0.93000" in texts


def test_bias_without_any_defined_cell(drawn):
    texts = drawn(identity_plots.draw_bias, NOTHING_DEFINED)
    assert "AUC by identity" in texts
    assert not any(text.startswith("0.") for text in texts)


def test_training(drawn):
    assert {"loss", "loss, smoothed", "loss of the evaluation", "AUC of the evaluation"} <= drawn(
        plots.draw_training, LOG_HISTORY
    )
    assert "loss, smoothed" not in drawn(plots.draw_training, LOG_HISTORY[:1])


def test_training_of_several_labels_shows_their_mean_beside_the_main_one(drawn):
    log_history = [entry | {"eval_mean_auc": 0.8} if "eval_auc" in entry else entry for entry in LOG_HISTORY]
    assert {"main label", "mean over the labels"} <= drawn(plots.draw_training, log_history)
    no_main = [entry | {"eval_auc": None} if "eval_auc" in entry else entry for entry in log_history]
    assert "mean over the labels" in drawn(plots.draw_training, no_main)
    assert "main label" not in drawn(plots.draw_training, LOG_HISTORY)


@pytest.mark.parametrize("log_history", [[], LOG_HISTORY[-4:]])
def test_without_a_loss_there_is_nothing_of_training_to_draw(log_history):
    assert not plots.losses_logged(log_history)


def timed(tokenizer, training, inference, cached=False):
    seconds = {"tokenizer": tokenizer, "training": training, "inference": inference}
    return {
        "machine": {"label": "cpu"},
        "timing": {
            **{f"{phase}_seconds": taken for phase, taken in seconds.items()},
            "tokenizer_cache_hit": cached,
            "resumed": cached,
        },
        "throughput": {f"{phase}_rows_per_second": 1000 / taken if taken else 0 for phase, taken in seconds.items()},
    }


def test_timing(drawn):
    assert {"0:34:41, 0.5 rows/s", "1:29:41, 0.2 rows/s", "hours"} <= drawn(plots.draw_timing, timed(2081, 5381, 854))
    texts = drawn(plots.draw_timing, timed(0.0, 20.0, 5.0, cached=True))
    assert {"0:00:00, from the cache", "0:00:20, 50 rows/s, resumed: its last part", "seconds"} <= texts
    drawn(plots.draw_timing, timed(0.0, 0.0, 0.0))


def test_probe(drawn):
    texts = drawn(identity_plots.draw_probe, PROBE)
    assert {"psychiatric or mental illness", "unmarked people", "hostile ones"} <= texts
    assert "threshold 0.600, for precision 0.8" in texts


def test_probe_with_the_default_threshold_alone(drawn):
    rates = {"false_positive_rate": {"default": 0.0}}
    identities = {name: cells | rates for name, cells in PROBE["identities"].items()}
    probe = PROBE | {"thresholds": {"default": 0.5}, "identities": identities, "unmarked": PROBE["unmarked"] | rates}
    assert "threshold 0.500" in drawn(identity_plots.draw_probe, probe)


def test_smoothing_is_a_running_mean():
    values = np.array([3.0, 0.0, 3.0, 6.0, 0.0])
    np.testing.assert_allclose(plots.running_mean(values), [1.5, 2.0, 3.0, 3.0, 3.0])
    rng = np.random.default_rng(0)
    noise = rng.normal(size=400)
    np.testing.assert_allclose(plots.running_mean(noise)[200], noise[190:211].mean())
    assert plots.running_mean(np.array([7.0])).tolist() == [7.0]
