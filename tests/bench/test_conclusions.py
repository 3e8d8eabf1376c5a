import pytest
from example_run import changed, own_row, several_labels_row

from toxicity.bench.conclusions import agreeing_decimals, conclude, flops_text, percent_change
from toxicity.bench.results import hanley_mcneil_error, results_of
from toxicity.bench.runs import published_rows


def published():
    return conclude(results_of(published_rows()))


def test_the_published_analysis_is_reproduced():
    machines, slip, epochs, *_ = published()
    assert machines.startswith("V100 (published), 1 epoch, against P100 (published), 1 epoch: ")
    assert "tokenizer −15.3 %, training −74.3 %, inference −75.9 %" in machines
    assert "0.96819 and 0.96817, agree to 4 decimals when rounded" in machines
    assert epochs.startswith("V100 (published), 2 epochs, against 1 epoch: training takes 1.967 times as long")
    assert "the AUC changes by −0.00127" in epochs
    assert slip.startswith("The published analysis has a slip here")


def test_its_slip_is_corrected():
    slip = published()[1]
    assert "calls the tokenizer 17 % faster" in slip
    assert "its own times give 15.3 %" in slip


def test_the_arithmetic_by_hand():
    assert percent_change(34 * 60 + 41, 40 * 60 + 58) == pytest.approx(-15.3, abs=0.05)
    assert percent_change(1 * 3600 + 29 * 60 + 41, 5 * 3600 + 49 * 60 + 30) == pytest.approx(-74.3, abs=0.05)
    assert percent_change(14 * 60 + 14, 59 * 60 + 4) == pytest.approx(-75.9, abs=0.05)
    one_epoch, two_epochs = 1 * 3600 + 29 * 60 + 41, 2 * 3600 + 56 * 60 + 22
    assert round(two_epochs / one_epoch, 3) == 1.967
    assert round(0.96692 - 0.96819, 5) == -0.00127


def test_what_each_machine_does():
    *_, p100 = published()
    assert p100.startswith("P100 (published), 1 epoch: tokenises 610, trains 48, scores 141 comments a second")
    assert "1.73 TFLOP/s (18.6 %) in training" in p100
    assert "of the 9.3 TFLOP/s of its data sheet" in p100
    assert "AUC 0.96817 ± 0.00062 (standard error)" in p100


def test_machines_are_compared_at_the_same_epochs_only():
    results = results_of([own_row("v100"), own_row("p100", epochs=2.0)])
    assert not any("against" in sentence for sentence in conclude(results))


def test_what_was_not_measured_is_left_out():
    bare = changed(changed(own_row(), "timing", "tokenizer_cache_hit", True), "metrics", "auc", None)
    bare["throughput"] = {"training_rows_per_second": 12.0, "inference_rows_per_second": 50.0}
    del bare["machine"]["matmul_flops_per_second"]
    first, *_, last = conclude(results_of([bare, changed(own_row("p100"), "timing", "training_seconds", 9999)]))
    assert first == "v100, 1 epoch, against p100, 1 epoch: training −46.2 %, inference +0.0 %."
    assert conclude(results_of([bare])) == ["v100, 1 epoch: trains 12, scores 50 comments a second."]
    assert "p100" in last


@pytest.mark.parametrize(
    ("a", "b", "decimals"),
    [(0.96819, 0.96817, 4), (0.96819, 0.96692, 2), (0.9, 0.9, 5), (0.94, 0.96, 0), (0.96819, 0.96823, 4)],
)
def test_agreeing_decimals(a, b, decimals):
    assert agreeing_decimals(a, b) == decimals


def test_flops_have_a_unit():
    assert flops_text(6.7312e12) == "6.73 TFLOP/s"
    assert flops_text(4.25e11) == "425 GFLOP/s"


def test_several_labels_have_an_auc_of_the_main_one_and_a_mean():
    row = several_labels_row("toxicity", "insult")
    (sentence,) = conclude(results_of([row]))
    error = hanley_mcneil_error(0.9683, 30_000, 370_000)
    assert (
        f"AUC of the main label 0.96830 ± {error:.5f} (standard error); mean AUC of the 2 labels 0.97500." in sentence
    )
    row["metrics"] |= {"mean_auc": None, "mean_auc_labels": 0}
    assert "mean AUC" not in conclude(results_of([row]))[0]
