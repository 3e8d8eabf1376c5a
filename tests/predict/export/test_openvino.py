"""Exports to OpenVINO, in fp32 and int8: what they score, what is told of them, and what is refused."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from builders import ROOT, make_comments, write_csv
from exporting import needs_exporters
from transformers import BertConfig, BertForSequenceClassification

from toxicity.core.arguments import DataArguments
from toxicity.core.errors import RequestError
from toxicity.predict.export import compare
from toxicity.predict.export.comments import SAMPLE, Comments, read_comments
from toxicity.predict.scorer import Scorer

pytest.importorskip("openvino")
pytest.importorskip("nncf")
needs_exporters()

ROWS = 100


@pytest.fixture(scope="module")
def exported(tmp_path_factory, tiny_config, tokenizer):
    """A model that the command exported: its folder, the content of `export.json`, and what the command printed."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("openvino")
    settings = {"temperature": 2.0, "threshold": 0.4, "thresholds": {"0.8": 0.4}}
    config = BertConfig(**tiny_config.to_dict() | {"toxicity": settings})
    BertForSequenceClassification(config).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    write_csv(folder / "labelled.csv", ["text", "target"], make_comments(ROWS))
    (folder / "empty").mkdir()
    command = [sys.executable, "-m", "toxicity.predict", "--export", "openvino", "--model", folder / "model"]
    command += ["--output", folder / "out", "--input", folder / "labelled.csv"]
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder / "empty",
        env=environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder, json.loads((folder / "out" / "export.json").read_text()), done


def environment(folder):
    import os

    return os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "home")}


@pytest.mark.parametrize(("form", "tolerance"), [("fp32", 1e-5), ("int8", 0.05)])
def test_an_export_scores_as_torch_does(exported, form, tolerance):
    folder, _, _ = exported
    texts = [text for text, _ in make_comments(40, seed=7)]
    expected = Scorer(str(folder / "model"), device="cpu", mixed_precision="no", runtime="torch")(texts)
    scorer = Scorer(str(folder / "out" / form), mixed_precision="no")
    assert scorer.runtime == "openvino"
    assert (scorer.temperature, scorer.threshold) == (2.0, 0.4), "what the run wrote travels along"
    assert scorer(texts) == pytest.approx(expected, abs=tolerance)


def test_what_is_told_of_an_export(exported):
    folder, report, done = exported
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["export.json", "fp32", "int8"]
    assert list((folder / "empty").iterdir()) == [], "nothing is left in the working folder"
    assert "int8" in done.stdout
    assert "%" not in done.stderr, "no progress bars"
    assert report["rows"] + report["calibrating_comments"] == ROWS
    assert report["calibrated_on"] == f"other rows of {folder / 'labelled.csv'}"
    assert len(report["floating_point_layers"]) <= 6, "two of ten inputs of layers; those of queries have three"
    assert {"openvino", "nncf"} <= report["versions"].keys()
    for form in ("fp32", "int8"):
        found = report[form]
        assert 0 <= found["mean_score_difference"] <= found["largest_score_difference"] < 0.1
        assert 0 <= found["changed_labels"] <= 1
        assert found["rows_per_second"] > 0
        assert found["thresholds"].keys() == {"default", "0.8"}
        assert found["best_log_loss"] is None or found["best_log_loss"] <= found["log_loss"]
    assert report["int8"]["megabytes"] > 0


@pytest.mark.parametrize("missing", ["openvino", "nncf"])
def test_a_package_that_is_missing_is_named(monkeypatch, checkpoint, tmp_path, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(RequestError, match="not installed .*pip install -r requirements-openvino.txt"):
        compare.export_and_compare(str(checkpoint), "main", tmp_path / "out", runtime="openvino")
    assert not (tmp_path / "out").exists()


def test_a_model_that_cannot_be_converted(monkeypatch, exported, tmp_path):
    from toxicity.predict import converted

    def fail(*arguments):
        raise NotImplementedError("no such operation")

    write_csv(tmp_path / "labelled.csv", ["text", "target"], make_comments(ROWS))
    monkeypatch.setattr(converted, "to_openvino", fail)
    monkeypatch.setattr(converted.constants, "HF_ASSETS_CACHE", str(tmp_path / "cache"))
    labelled = DataArguments(train_file=str(tmp_path / "labelled.csv"))
    with pytest.raises(RequestError, match="OpenVINO cannot compute this model .*no such operation"):
        compare.export_and_compare(str(exported[0] / "model"), "main", tmp_path / "out", labelled, runtime="openvino")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (make_comments(30), "has 30 comments. int8 is calibrated on some and measured on others: give 40 or more"),
        ([("the same", 1), ("the same", 0)] * 30, "too few different comments"),
        ([*make_comments(60), ("", 1)], "row 61: .* rows that are whole"),
    ],
)
def test_comments_that_do_not_do(tmp_path, rows, message):
    write_csv(tmp_path / "rows.csv", ["text", "target"], rows)
    with pytest.raises(RequestError, match=message):
        read_comments(DataArguments(train_file=str(tmp_path / "rows.csv")), "model", calibrate=True)


def test_comments_that_calibrate_are_not_measured(tmp_path):
    write_csv(tmp_path / "rows.csv", ["text", "target"], make_comments(90))
    found = read_comments(DataArguments(train_file=str(tmp_path / "rows.csv")), "model", calibrate=True)
    assert not set(found.calibrating) & set(found.texts)
    assert (len(found.texts), len(found.calibrating)) == (45, 45)


def test_a_run_on_other_comments_is_told_that_it_is_calibrated_on_the_sample(tmp_path, caplog):
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "benchmark.json").write_text(json.dumps({"protocol": {"dataset": "train.csv"}}))
    read_comments(SAMPLE, str(tmp_path), calibrate=True)
    assert "of train.csv are, which it was trained on: name them as --input" in caplog.text


def test_a_threshold_that_misses_its_precision_is_told(caplog):
    in_torch = {"0.8": {"precision": 0.81, "flagged": 0.2}}
    compare._warn("int8", {"0.8": {"precision": 0.79, "flagged": 0.2}}, in_torch, 2000)
    assert caplog.text == "", "one standard error is 0.02"
    compare._warn("int8", {"0.8": {"precision": 0.7, "flagged": 0.2}}, in_torch, 2000)
    assert "In int8, the threshold for a precision of 0.8 reaches 0.700 on these comments, and 0.810" in caplog.text


def test_scores_of_one_class_have_no_auc(exported):
    folder, _, _ = exported
    comments = Comments("x.csv", ["a", "b"], np.zeros(2, np.float32), [], "none")
    _, found = compare._measured(Scorer(str(folder / "out" / "fp32")), comments)
    assert (found["auc"], found["log_loss"], found["thresholds"]) == (None, None, {})
