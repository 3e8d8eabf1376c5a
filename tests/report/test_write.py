import json

import matplotlib.image
import numpy as np
import pyarrow.parquet
import pytest
from datasets import Dataset
from example_run import BIAS, CALIBRATION, LOG_HISTORY, PROBE, benchmark
from sklearn.metrics import roc_auc_score

from toxicity.bench.runs import benchmark_table
from toxicity.core.schema import LABEL
from toxicity.evaluation.calibration import Calibration
from toxicity.report.write import write_report
from toxicity.training.evaluate import Evaluation


def judged(logits):
    """An evaluation in which nothing was fitted to the logits."""
    return Evaluation(np.asarray(logits, dtype=np.float64)[:, None], {}, {LABEL: Calibration()}, None)


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
        "metrics_seconds": 0.5,
        "probe_seconds": 3.0,
        "robustness_seconds": 0.0,
        "eval_files_seconds": 0.0,
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
    header, rows = benchmark_table([benchmark(), benchmark(None, cache_hit=True)])
    assert header == ("Machine", "Epochs", "Tokenizer Time", "Training Time", "Inference Time", "AUC Score")
    assert rows == [
        ("p100", "1", "0:00:02", "0:01:40", "0:00:04", "0.96819"),
        ("p100", "1", "0:00:02 (cached)", "0:01:40", "0:00:04", "undefined"),
    ]


@pytest.fixture
def validation():
    return Dataset.from_dict(
        {"id": [7, 3, 5], "text": ["so\x1b[2J civil", "what a fool", "fine " * 100], "target": [0.2, 0.5, 0.0]}
    )


def test_predictions_keep_order_ids_and_auc(tmp_path, validation):
    logits = np.array([20.0, 20.00001, -3.0], dtype=np.float32)
    write_report(tmp_path, benchmark(), validation, judged(logits), [])
    table = pyarrow.parquet.read_table(tmp_path / "report" / "predictions.parquet")
    assert table["id"].to_pylist() == [7, 3, 5]
    assert table["label"].to_pylist() == [0, 1, 0]
    assert table["score"].to_numpy() == pytest.approx([1.0, 1.0, 0.0474], abs=1e-4)
    assert roc_auc_score(table["label"], table["score"]) == roc_auc_score([0, 1, 0], logits)


def test_rows_without_an_id_keep_their_place(tmp_path, validation):
    validation = validation.remove_columns("id").add_column("id", ["a", None, "c"])
    write_report(tmp_path, benchmark(), validation, judged(np.array([2.0, 3.0, -3.0], dtype=np.float32)), [])
    table = pyarrow.parquet.read_table(tmp_path / "report" / "predictions.parquet")
    assert table["id"].to_pylist() == ["a", None, "c"]
    assert "id `missing`" in (tmp_path / "report" / "report.md").read_text(encoding="utf-8")


def test_what_is_printed_ends_with_the_json_row(tmp_path, validation, capsys):
    write_report(tmp_path, benchmark(), validation, judged(np.array([-4.0, 2.0, -1.0])), LOG_HISTORY)
    output = capsys.readouterr().out
    *human, last = output.splitlines()
    assert json.loads(last) == json.loads((tmp_path / "report" / "benchmark.json").read_text()) == benchmark()
    human = "\n".join(human)
    assert "| p100 " in human
    assert "Most toxic (0.880797): what a fool" in human
    assert r"Least toxic (0.017986): so\x1b[2J civil" in human
    assert "\x1b" not in output


def files(folder):
    return sorted(path.name for path in (folder / "report").iterdir())


ALWAYS = ["benchmark.json", "predictions.parquet", "report.html", "report.md", "timing.png"]


def test_nothing_unfinished_is_left(tmp_path, validation):
    write_report(tmp_path, benchmark(), validation, judged(np.array([-4.0, 2.0, -1.0])), LOG_HISTORY)
    curves = ["precision_recall.png", "reliability.png", "roc.png", "training.png"]
    assert files(tmp_path) == sorted([*ALWAYS, *curves])


def test_all_that_is_known_is_drawn_and_shown(tmp_path, validation):
    row = benchmark() | {"calibration": CALIBRATION, "probe": PROBE}
    row["metrics"] = row["metrics"] | {"bias": BIAS}
    write_report(tmp_path, row, validation, judged(np.array([-4.0, 2.0, -1.0])), LOG_HISTORY)
    pictures = [name for name in files(tmp_path) if name.endswith(".png")]
    assert {"bias.png", "probe.png"} <= set(pictures)
    page = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    for name in pictures:
        assert f"]({name})" in page
        assert matplotlib.image.imread(tmp_path / "report" / name).size


def test_pictures_of_another_run_do_not_stay(tmp_path, validation):
    write_report(tmp_path, benchmark(), validation, judged(np.array([-4.0, 2.0, -1.0])), LOG_HISTORY)
    unbounded = np.array([-4.0, np.nan, np.inf], dtype=np.float32)
    write_report(tmp_path, benchmark(None), validation, judged(unbounded), [])
    assert files(tmp_path) == ALWAYS
    page = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert "(timing.png)" in page
    assert page.count(".png)") == 1


@pytest.mark.parametrize("targets", [[0.0, 1.0], [0.0, 0.0], [1.0, 1.0], [1.0]])
def test_a_few_rows_are_enough(tmp_path, targets):
    validation = Dataset.from_dict({"id": ["a", "b"], "text": ["one", "two"], "target": [0.0, 0.0]})
    validation = validation.select(range(len(targets))).remove_columns("target").add_column("target", targets)
    logits = np.array([-1.0, 1.0], dtype=np.float32)[: len(targets)]
    write_report(tmp_path, benchmark(None), validation, judged(logits), LOG_HISTORY[:1])
    page = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert ("roc.png" in files(tmp_path)) == (len(set(targets)) == 2) == ("roc.png" in page)
    assert "reliability.png" in files(tmp_path)


def test_the_wrong_ones_are_shown_worst_first(tmp_path):
    targets = [1.0, 0.0] * 10
    names = [f"comment{number}" for number in range(20)]
    validation = Dataset.from_dict({"id": names, "text": names, "target": targets})
    write_report(tmp_path, benchmark(), validation, judged(np.arange(20.0)), [])
    page = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")

    def listed(heading):
        section = page.split(f"### {heading}")[1].split("###")[0]
        return [line.split("`")[1] for line in section.splitlines() if line[:1].isdigit()]

    assert listed("Most toxic") == [f"comment{number}" for number in (19, 18, 17, 16, 15)]
    assert listed("Least toxic") == [f"comment{number}" for number in range(5)]
    assert listed("Worst false positives") == [f"comment{number}" for number in (19, 17, 15, 13, 11)]
    assert listed("Worst false negatives") == [f"comment{number}" for number in (0, 2, 4, 6, 8)]


def test_a_picture_that_cannot_be_drawn_costs_nothing_else(tmp_path, validation, monkeypatch, caplog, capsys):
    def fail(*arguments):
        raise OSError("no fonts here")

    monkeypatch.setattr("toxicity.report.plots.draw_timing", fail)
    write_report(tmp_path, benchmark(), validation, judged(np.array([-4.0, 2.0, -1.0])), [])
    assert "timing.png was not drawn: no fonts here" in caplog.text
    assert not (tmp_path / "report" / "timing.png").exists()
    assert (tmp_path / "report" / "roc.png").exists()
    assert "timing.png" not in (tmp_path / "report" / "report.md").read_text()
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == benchmark()
