import pytest
from example_run import own_row

from toxicity.bench.estimate import estimate
from toxicity.bench.runs import PHASES, published_rows
from toxicity.core.errors import RequestError


@pytest.mark.parametrize("row", published_rows(), ids=["v100", "v100, 2 epochs", "p100"])
def test_the_padded_estimate_lands_by_the_published_row(row):
    kind = row["machine"]["label"].split()[0].lower()
    forecast = estimate(kind, 1_000_000, row["protocol"]["epochs"], [])
    for phase in PHASES:
        assert forecast.padded[phase] == pytest.approx(row["timing"][f"{phase}_seconds"], rel=0.25)
    total = sum(row["timing"][f"{phase}_seconds"] for phase in PHASES)
    assert sum(forecast.padded.values()) == pytest.approx(total, rel=0.25)
    assert forecast.low < total < forecast.high


def test_without_padding_it_is_about_a_third():
    forecast = estimate("p100", 1_000_000, 1, [])
    assert forecast.real["training"] == pytest.approx(forecast.padded["training"] * 70 / 220, rel=0.05)
    assert forecast.low < sum(forecast.real.values()) < sum(forecast.padded.values()) < forecast.high


def test_it_grows_with_rows_and_epochs():
    once, twice = estimate("v100", 1000, 1, []), estimate("v100", 1000, 2, [])
    assert twice.real["training"] == pytest.approx(2 * once.real["training"])
    assert twice.real["inference"] == once.real["inference"]
    assert estimate("v100", 2000, 1, []).real["tokenizer"] == pytest.approx(2 * once.real["tokenizer"])


def test_a_measured_rate_goes_first():
    rows = [own_row("v100"), own_row("v100"), own_row("p100")]
    for row, flops in zip(rows, (1e13, 3e13, 1e9), strict=True):
        row["throughput"] |= {"training_flops_per_second": flops, "inference_flops_per_second": 4e13}
    forecast = estimate("v100", 1_000_000, 1, rows)
    assert forecast.real["training"] == pytest.approx(3.62e16 / 2e13, rel=0.01)
    assert forecast.high / forecast.low > 1.25**2
    assert any(
        "20 TFLOP/s in training and 40 TFLOP/s in scoring, measured in 2" in text for text in forecast.assumptions
    )


def test_a_kind_that_was_never_measured_gets_a_wider_interval():
    known, unknown = estimate("v100", 1000, 1, []), estimate("hopper", 1000, 1, [])
    assert unknown.high / unknown.low > known.high / known.low
    assert any("that of the published V100 is taken" in text for text in unknown.assumptions)


def test_a_processor_is_estimated_from_its_own_run():
    with pytest.raises(RequestError, match="make bench GPU=cpu"):
        estimate("cpu", 1000, 1, [])
    row = own_row("cpu")
    row["throughput"] |= {"training_flops_per_second": 1e11, "inference_flops_per_second": 2e11}
    forecast = estimate("cpu", 1000, 1, [row])
    assert forecast.padded is None
    assert forecast.low < sum(forecast.real.values()) < forecast.high


def test_the_tokenizer_is_ours_where_it_was_measured():
    row = own_row("cpu")
    row["throughput"]["tokenizer_rows_per_second"] = 15_000.0
    assert estimate("p100", 1_000_000, 1, [row]).real["tokenizer"] == pytest.approx(100.0)
    row["timing"]["tokenizer_cache_hit"] = True
    assert estimate("p100", 1_000_000, 1, [row]).real["tokenizer"] == pytest.approx(2458.0)
