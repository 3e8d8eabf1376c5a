import json

import numpy as np
import pytest
from conftest import make_comments, write_csv

from toxicity import onnx_export
from toxicity.data import load_splits
from toxicity.errors import RequestError
from toxicity.scorer import Scorer

for package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package)


@pytest.fixture(scope="module")
def exported(tmp_path_factory, tiny_config, tokenizer):
    """A model that is exported once for all tests: its folder, the export's, and what was told."""
    import torch
    from transformers import BertForSequenceClassification

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("onnx")
    config = tiny_config.__class__(**tiny_config.to_dict() | {"toxicity": {"temperature": 2.0, "threshold": 0.4}})
    BertForSequenceClassification(config).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    write_csv(folder / "labelled.csv", ["id", "body", "bad"], [[i, *row] for i, row in enumerate(make_comments(60))])
    report = onnx_export.export_and_compare(
        str(folder / "model"), "main", folder / "out", str(folder / "labelled.csv"), "body", "bad"
    )
    return folder, report


@pytest.mark.parametrize(("form", "tolerance"), [("fp32", 1e-5), ("int8", 0.05)])
def test_an_export_scores_as_torch_does(exported, form, tolerance):
    folder, _ = exported
    texts = [text for text, _ in make_comments(40, seed=7)]
    expected = Scorer(str(folder / "model"), device="cpu", mixed_precision="no")(texts)
    scorer = Scorer(str(folder / "out" / form))
    assert scorer.runtime == "onnxruntime"
    assert (scorer.temperature, scorer.threshold) == (2.0, 0.4), "what the run wrote travels along"
    assert scorer(texts) == pytest.approx(expected, abs=tolerance)
    assert scorer(texts[:1]) == pytest.approx(expected[:1], abs=tolerance), "one row is as good as many"


def test_what_differs_is_kept_with_the_export(exported):
    folder, report = exported
    assert json.loads((folder / "out" / "export.json").read_text()) == report
    assert report["rows"] == 60
    assert 0 <= report["torch"]["auc"] <= 1
    assert report["fp32"]["auc"] == pytest.approx(report["torch"]["auc"], abs=0.01)
    texts = [text for text, _ in make_comments(60)]
    scores = {form: Scorer(str(folder / "out" / form))(texts) for form in ("fp32", "int8")}
    expected = Scorer(str(folder / "model"), device="cpu", mixed_precision="no")(texts)
    for form, found in scores.items():
        assert report[form]["largest_score_difference"] == np.abs(found - expected).max()
    assert 0 < report["int8"]["megabytes"] < report["fp32"]["megabytes"]


def test_it_is_measured_on_whole_rows_only(exported, tmp_path):
    folder, _ = exported
    write_csv(tmp_path / "bad.csv", ["text", "target"], [["x", 1], ["y", 7]])
    with pytest.raises(RequestError, match="row 2: the target is not from 0 to 1"):
        onnx_export.export_and_compare(str(folder / "model"), "main", tmp_path / "out", str(tmp_path / "bad.csv"))


def test_the_sample_rows_are_those_its_recipe_validates_on(monkeypatch):
    from toxicity.arguments import parse_arguments

    recipe = parse_arguments([]).data
    assert all(getattr(recipe, name) == value for name, value in onnx_export.SAMPLE.items())
    texts, labels = onnx_export._labelled_comments(None, None, None)
    assert texts == load_splits(recipe).validation["text"][:]
    assert len(labels) == 2000
