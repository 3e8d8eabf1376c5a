import json

import numpy as np
import pyarrow.parquet
import pytest
from datasets import Dataset
from sklearn.metrics import roc_auc_score

from toxicity.report import benchmark_table, build_benchmark, write_report

SECONDS = {"tokenizer": 2.0, "training": 100.0, "inference": 4.0}
COUNTS = {
    "tokenized_rows": 6,
    "trained_rows": 400,
    "trained_tokens": 30_000,
    "scored_rows": 2,
    "scored_tokens": 100,
    "trained_flops": 6e9,
    "scored_flops": 2e7,
}


def benchmark(auc: float | None = 0.968194, cache_hit: bool = False):
    protocol = {"recipe": "reference", "epochs": 1.0, "mixed_precision": "no"}
    return build_benchmark({"label": "p100"}, protocol, SECONDS, cache_hit, False, COUNTS, auc, {})


def test_times_and_rates():
    row = benchmark()
    assert row["schema_version"] == 1
    assert row["timing"] == {
        "tokenizer_seconds": 2.0,
        "tokenizer_cache_hit": False,
        "resumed": False,
        "interruptions": [],
        "training_seconds": 100.0,
        "inference_seconds": 4.0,
        "checkpoint_seconds": 0.0,
    }
    assert row["throughput"] == {
        "tokenizer_rows_per_second": 3.0,
        "training_rows_per_second": 4.0,
        "inference_rows_per_second": 0.5,
        "training_tokens_per_second": 300.0,
        "inference_tokens_per_second": 25.0,
        "training_flops_per_second": 6e7,
        "inference_flops_per_second": 5e6,
    }
    assert row["metrics"] == {"auc": 0.968194, "bias": None}
    assert {"python", "torch", "transformers", "datasets", "accelerate"} <= row["versions"].keys()


def test_the_table_has_the_published_columns():
    lines = benchmark_table([benchmark(), benchmark(None, cache_hit=True)]).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["Machine", "Epochs", "Tokenizer Time", "Training Time", "Inference Time", "AUC Score"]
    assert cells[2] == ["p100", "1", "0:00:02", "0:01:40", "0:00:04", "0.96819"]
    assert cells[3] == ["p100", "1", "0:00:02 (cached)", "0:01:40", "0:00:04", "undefined"]
    assert len({len(line) for line in lines}) == 1


@pytest.fixture
def validation():
    return Dataset.from_dict(
        {"id": [7, 3, 5], "text": ["so\x1b[2J civil", "what a fool", "fine " * 100], "target": [0.2, 0.5, 0.0]}
    )


def test_predictions_keep_order_ids_and_auc(tmp_path, validation):
    logits = np.array([20.0, 20.00001, -3.0], dtype=np.float32)
    write_report(tmp_path, benchmark(), validation, logits)
    table = pyarrow.parquet.read_table(tmp_path / "report" / "predictions.parquet")
    assert table["id"].to_pylist() == [7, 3, 5]
    assert table["label"].to_pylist() == [0, 1, 0]
    assert table["score"].to_numpy() == pytest.approx([1.0, 1.0, 0.0474], abs=1e-4)
    assert roc_auc_score(table["label"], table["score"]) == roc_auc_score([0, 1, 0], logits)


def test_what_is_printed_ends_with_the_json_row(tmp_path, validation, capsys):
    write_report(tmp_path, benchmark(), validation, np.array([-4.0, 2.0, -1.0]))
    output = capsys.readouterr().out
    *human, last = output.splitlines()
    assert json.loads(last) == json.loads((tmp_path / "report" / "benchmark.json").read_text()) == benchmark()
    human = "\n".join(human)
    assert "| p100 " in human
    assert "Most toxic (0.880797): what a fool" in human
    assert r"Least toxic (0.017986): so\x1b[2J civil" in human
    assert "\x1b" not in output


def test_nothing_unfinished_is_left(tmp_path, validation):
    write_report(tmp_path, benchmark(), validation, np.array([-4.0, 2.0, -1.0]))
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == ["benchmark.json", "predictions.parquet"]
