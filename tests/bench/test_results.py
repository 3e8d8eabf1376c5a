import numpy as np
import pytest
from example_run import changed, own_row

from toxicity.bench.results import hanley_mcneil_error, results_of
from toxicity.bench.runs import published_rows


def test_one_result_for_each_machine_and_epochs():
    results = results_of([*published_rows(), own_row(), own_row(epochs=2.0), own_row()])
    assert [(result.label, result.epochs, result.runs) for result in results] == [
        ("V100 (published)", 1, 1),
        ("V100 (published)", 2, 1),
        ("P100 (published)", 1, 1),
        ("v100", 1, 2),
        ("v100", 2, 1),
    ]
    assert results[3].name == "v100, 1 epoch, median of 2 runs"


def test_times_are_medians_and_aucs_means():
    rows = [changed(own_row(), "timing", "training_seconds", seconds) for seconds in (100, 900, 110)]
    rows[0]["metrics"]["auc"] = 0.96
    (result,) = results_of(rows)
    assert result.seconds["training"] == 110
    assert result.auc == pytest.approx((0.96 + 2 * 0.9683) / 3)


def test_a_cached_tokenizer_has_no_time():
    cached = changed(own_row(), "timing", "tokenizer_cache_hit", True)
    (result,) = results_of([cached])
    assert result.seconds.keys() == {"training", "inference"}
    assert "tokenizer_rows_per_second" not in result.rates
    (result,) = results_of([cached, own_row()])
    assert result.seconds["tokenizer"] == 2081


def test_peaks_are_measured_or_of_the_data_sheet():
    several = own_row()
    several["machine"]["device_count"] = 4
    published, own = results_of([published_rows()[0], several])
    assert (published.peak, published.peak_source) == (112e12, "of its data sheet")
    assert (own.peak, own.peak_source) == (4 * 9e13, "measured on matrix products")


def test_an_auc_that_is_not_defined_has_no_error():
    (result,) = results_of([changed(own_row(), "metrics", "auc", None)])
    assert (result.auc, result.auc_error) == (None, None)


def test_the_error_is_assumed_for_the_published_rows_only():
    unknown = own_row()
    del unknown["protocol"]["validation_positives"]
    published, own = results_of([published_rows()[0], unknown])
    assert published.auc_error == pytest.approx(0.00062, abs=1e-5)
    assert own.auc_error is None


def test_the_standard_error_of_hanley_and_mcneil():
    # Their own example: 51 abnormal and 58 normal images, area 0.893, standard error 0.032 by this formula.
    assert hanley_mcneil_error(0.893, 51, 58) == pytest.approx(0.032, abs=0.0006)


def test_the_standard_error_is_the_spread_over_draws():
    # Exponential scores are what the formula assumes, so the simulated spread is the formula's.
    rng = np.random.default_rng(0)
    positives, negatives = rng.exponential(4.0, (400, 60, 1)), rng.exponential(1.0, (400, 1, 200))
    aucs = (positives > negatives).mean(axis=(1, 2))
    assert np.std(aucs) == pytest.approx(hanley_mcneil_error(np.mean(aucs), 60, 200), rel=0.1)


@pytest.mark.parametrize("auc", [0.0, 1.0])
def test_a_perfect_ranking_has_no_error(auc):
    assert hanley_mcneil_error(auc, 10, 10) == 0.0


def test_other_devices_of_one_label_are_other_machines():
    small, large, half = own_row("cpu"), own_row("cpu"), own_row("cpu")
    for row, cores, precision in ((small, 2, "bf16"), (large, 64, "bf16"), (half, 64, "no")):
        row["machine"] |= {"device_name": "EPYC", "compute_capability": None, "cpu_count": cores}
        row["protocol"]["mixed_precision"] = precision
    labels = [result.label for result in results_of([small, large, half, large])]
    assert labels == ["cpu (2 cores, bf16)", "cpu (64 cores, bf16)", "cpu (64 cores, fp32)"]
    assert [result.label for result in results_of([small, small])] == ["cpu"]
