"""Exports of models with several labels: all of them score as in torch, and what is told of each."""

import json

import numpy as np
import pandas
import pyarrow as pa
import pytest
from builders import make_comments, write_csv
from exporting import needs_exporters
from label_models import calibration_of, save_label_model
from sklearn.metrics import roc_auc_score

from toxicity.core.arguments import DataArguments
from toxicity.core.errors import RequestError
from toxicity.core.schema import label_column
from toxicity.data.labelled_files import Source
from toxicity.evaluation.calibration import Calibration
from toxicity.predict.export import comments as comments_module
from toxicity.predict.export import compare
from toxicity.predict.export.comments import Comments, read_comments
from toxicity.predict.scorer import Scorer

NAMES = ("toxic", "severe_toxic", "insult")
TEXTS = [text for text, _ in make_comments(40, seed=7)]
# Of 60 comments: one in four is an insult, and one in three toxic, of which nothing is said in the last ten.
INSULT = np.array([label for _, label in make_comments(60)], dtype=np.float32)
TOXIC = np.where(np.arange(60) < 50, np.arange(60) % 3 == 0, np.nan).astype(np.float32)
FILE = DataArguments(train_file="labelled.csv")


@pytest.fixture(params=["onnx", "openvino"], scope="module")
def exported(request, tmp_path_factory, tiny_config, tokenizer):
    """The folder of a model of three labels and of its exports, and the content of `export.json`."""
    for package in {"onnx": ("onnxscript", "onnxruntime"), "openvino": ("openvino", "nncf")}[request.param]:
        pytest.importorskip(package)
    needs_exporters()
    folder = tmp_path_factory.mktemp(request.param)
    # One layer, as the exporter takes seconds for each.
    config = tiny_config.__class__(**tiny_config.to_dict() | {"num_hidden_layers": 1})
    save_label_model(folder / "model", config, tokenizer, NAMES)
    others = {"severe_toxicity": np.zeros(60, np.float32), "toxicity": TOXIC}
    texts, calibrating = [[text for text, _ in make_comments(60, seed)] for seed in (0, 1)]
    comments = Comments("labelled.csv", texts, INSULT, calibrating, "others", others)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare, "read_comments", lambda *arguments, **options: comments)
        patch.setattr("huggingface_hub.constants.HF_ASSETS_CACHE", str(folder / "assets"))
        arguments = (str(folder / "model"), "main", folder / "out", FILE, ["insult"], request.param)
        report = compare.export_and_compare(*arguments)
    assert report == json.loads((folder / "out" / "export.json").read_text())
    return folder, report, texts


def test_all_labels_score_as_in_torch(exported):
    folder, report, _ = exported
    expected = Scorer(str(folder / "model"), device="cpu", mixed_precision="no", runtime="torch", toxic_label="insult")
    for form, tolerance in (("fp32", 1e-5), ("int8", 0.05)):
        if form in report:
            scorer = Scorer(str(folder / "out" / form), mixed_precision="no" if "int8" in report else None)
            assert scorer.calibrations == expected.calibrations
            assert next(iter(scorer.calibrations)) == "insult", "as was asked for, and with its own calibration"
            assert scorer.calibration == Calibration.from_config(calibration_of(2))
            for name, scores in scorer.by_label(TEXTS).items():
                assert scores == pytest.approx(expected.by_label(TEXTS)[name], abs=tolerance), (form, name)
            section = json.loads((folder / "out" / form / "config.json").read_text())["toxicity"]
            assert section["threshold"] == calibration_of(2)["threshold"]


def test_what_is_told_of_each_label(exported):
    folder, report, texts = exported
    expected = Scorer(str(folder / "model"), device="cpu", mixed_precision="no", runtime="torch", toxic_label="insult")
    for form in {"torch", "fp32", "int8"} & report.keys():
        found = report[form]["labels"]
        assert list(found) == ["insult", "toxic", "severe_toxic"]
        assert found["insult"].items() <= report[form].items()
        for cells in found.values():
            assert 0 <= cells["mean_score_difference"] <= cells["largest_score_difference"] < 0.1
            assert 0 <= cells["changed_labels"] <= 1
    scores, found = expected.by_label(texts), report["torch"]["labels"]
    assert found["insult"]["auc"] == pytest.approx(roc_auc_score(INSULT, scores["insult"]), abs=1e-9)
    assert found["toxic"]["auc"] == pytest.approx(roc_auc_score(TOXIC[:50], scores["toxic"][:50]), abs=1e-9)
    assert found["severe_toxic"]["auc"] is None, "all of one class"
    assert report["torch"]["largest_score_difference"] == 0


def fake_scorer(scores):
    """A scorer of two labels that has these scores `(rows, 2)`."""
    calibrations = {"toxic": Calibration(threshold=0.5, thresholds={"0.9": 0.7}), "insult": Calibration(threshold=0.3)}
    main = calibrations["toxic"]
    attributes = {
        **{"calibrations": calibrations, "mixed_precision": "no", "temperature": 1.0},
        **{"threshold": main.threshold, "thresholds": main.thresholds},
        **{"tokenize": staticmethod(lambda texts: texts), "probabilities": staticmethod(lambda tokens: scores)},
    }
    return type("Fake", (), attributes)()


def test_the_figures_of_each_label_by_hand():
    expected = np.array([[0.9, 0.2], [0.4, 0.4], [0.6, 0.1], [0.2, 0.35]])
    scores = expected + np.array([[0, 0.2], [0.2, 0], [0, 0], [0, -0.1]])
    labels = {"INSULT": np.array([1, 1, 0, np.nan], np.float32)}
    comments = Comments("x", list("abcd"), np.array([1, 0, np.nan, 0], np.float32), [], "none", labels)
    found, told = compare._measured(fake_scorer(scores), comments, expected)
    assert found.tolist() == scores.tolist()
    assert told["labels"]["toxic"] == pytest.approx(
        {"auc": 1.0, "largest_score_difference": 0.2, "mean_score_difference": 0.05, "changed_labels": 0.25}
    )
    assert told["labels"]["toxic"].items() <= told.items()
    assert told["thresholds"]["default"] == {"precision": 0.5, "recall": 1.0, "flagged": pytest.approx(2 / 3)}
    # 0.4, 0.4 and 0.1, of which the first two are insults; the first and the last one change sides of 0.3.
    assert told["labels"]["insult"] == pytest.approx(
        {"auc": 1.0, "largest_score_difference": 0.2, "mean_score_difference": 0.075, "changed_labels": 0.5}
    )
    table = compare._table({"rows": 4, "labelled": "x", "torch": told})
    cells = [cell.strip() for cell in table.splitlines()[-1].strip("|").split("|")]
    assert cells == ["torch", "insult", "1.00000", "0.075000", "0.200000", "50.00%"]


def test_labels_of_a_file_are_read_by_the_columns_of_the_source(monkeypatch):
    table = pa.table(
        {"text": [f"x{n}" for n in range(3)], "target": [1.0, None, 0.4], label_column("insult"): [None, 0.5, 0]}
    )
    source = Source(name="x.csv", table=table, bad_rows={}, files=[("x.csv", 3)])
    monkeypatch.setattr(comments_module, "read_file", lambda *arguments: source)
    found = read_comments(FILE, "m", calibrate=False)
    assert pandas.isna(found.labels).tolist() == [False, True, False]
    assert found.labels[[0, 2]].tolist() == [1, 0]
    assert {name: labels.tolist()[1:] for name, labels in found.other_labels.items()} == {"insult": [1, 0]}
    assert found.labels.dtype == found.other_labels["insult"].dtype == np.float32


def test_the_main_label_is_named_first(tmp_path, tiny_config, tokenizer, caplog):
    model = save_label_model(tmp_path / "model", tiny_config, tokenizer, NAMES)
    scorer = Scorer(str(model), device="cpu", runtime="torch")
    comments = Comments("x.csv", [], np.zeros(0), [], "", {"severe_toxicity": np.zeros(0)})
    with pytest.raises(RequestError, match="name the main label of the model, `toxic`, first in --label_column_names"):
        compare._check_labels(scorer, comments, DataArguments(train_file="x", label_column_names=["insult", "toxic"]))
    with caplog.at_level("INFO", logger="toxicity"):
        compare._check_labels(scorer, comments, DataArguments(train_file="x", label_column_names=["target", "y"]))
    assert "x.csv is not known to have labels of `insult`, so that these get no AUC" in caplog.text


@pytest.mark.parametrize("flag", [["--label_column_name", "x"], ["--label_column_names", "x", "y"]])
def test_the_command_hands_the_columns_on(score, tmp_path, monkeypatch, flag):
    told = []
    monkeypatch.setattr(compare, "export_and_compare", lambda *arguments: told.append(arguments[3]))
    path = write_csv(tmp_path / "a.csv", ["text"], [["x"]])
    assert score("--export", "onnx", "--input", path, *flag) == 0
    assert getattr(told[0], flag[0][2:]) == (flag[1] if len(flag) == 2 else flag[1:])
    assert score("--input", path, *flag) == 2
