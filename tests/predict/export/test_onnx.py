import json
import shutil

import numpy as np
import pandas
import pytest
import torch
from builders import make_comments, write_csv
from exporting import needs_exporters
from transformers import AutoTokenizer, BertForSequenceClassification, BertTokenizer

from toxicity.core.arguments import DataArguments, parse_arguments
from toxicity.core.errors import RequestError
from toxicity.data.sources import load_splits
from toxicity.predict.__main__ import main
from toxicity.predict.export import compare
from toxicity.predict.export.comments import SAMPLE, read_comments
from toxicity.predict.scorer import Scorer

for package in ("onnx", "onnxscript"):
    pytest.importorskip(package)
onnxruntime = pytest.importorskip("onnxruntime")
needs_exporters()

pytestmark = pytest.mark.usefixtures("torch_build")


@pytest.fixture(scope="module")
def exported(torch_build, tmp_path_factory, tiny_config, tokenizer):
    """A model, exported once for all tests: the folder of both, and the content of `export.json`."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("onnx")
    # One layer, as the exporter takes seconds for each.
    changes = {"num_hidden_layers": 1, "toxicity": {"temperature": 2.0, "threshold": 0.4}}
    config = tiny_config.__class__(**tiny_config.to_dict() | changes)
    BertForSequenceClassification(config).save_pretrained(folder / "model")
    # A tokenizer of the class of BERT models, which makes token_type_ids.
    BertTokenizer(vocab=tokenizer.get_vocab(), model_max_length=64).save_pretrained(folder / "model")
    write_csv(folder / "labelled.csv", ["id", "body", "bad"], [[i, *row] for i, row in enumerate(make_comments(60))])
    # Files of an earlier export, which are to be replaced.
    (folder / "out" / "fp32").mkdir(parents=True)
    (folder / "out" / "fp32" / "old.onnx").write_text("old")
    call(
        *("--model", folder / "model", "--export", "onnx", "--output", folder / "out"),
        *("--input", folder / "labelled.csv", "--text_column_name", "body", "--label_column_name", "bad"),
    )
    return folder, json.loads((folder / "out" / "export.json").read_text())


def labelled(folder):
    """The comments that the fixture's model is measured on."""
    return DataArguments(train_file=str(folder / "labelled.csv"), text_column_name="body", label_column_name="bad")


def call(*arguments):
    """Run the command in this process."""
    threads = torch.get_num_threads()
    try:
        main(list(map(str, arguments)))
    finally:
        torch.set_num_threads(threads)


def test_the_command_scores_with_an_export(exported, tmp_path):
    folder, _ = exported
    call(
        *("--model", folder / "out" / "fp32", "--output", tmp_path),
        *("--input", folder / "labelled.csv", "--text_column_name", "body"),
    )
    frame = pandas.read_parquet(tmp_path / "labelled.parquet")
    scorer = Scorer(str(folder / "out" / "fp32"))
    assert frame["score"].tolist() == scorer([text for text, _ in make_comments(60)]).tolist()
    job = json.loads((tmp_path / "manifest.json").read_text())["job"]
    assert (job["runtime"], job["device"], "onnxruntime" in job["versions"]) == ("onnxruntime", "cpu", True)


@pytest.mark.parametrize("given", [{"device": "meta"}, {"mixed_precision": "bf16"}, {"mixed_precision": "no"}])
def test_an_export_is_computed_as_it_was_exported(exported, given):
    folder, _ = exported
    with pytest.raises(RequestError, match="(computes on the CPU only: leave device out|Leave mixed_precision out)"):
        Scorer(str(folder / "out" / "fp32"), **given)
    Scorer(str(folder / "out" / "fp32"), device="cpu")


def test_an_export_is_no_model_to_export(exported, tmp_path):
    folder, _ = exported
    with pytest.raises(RequestError, match="is an export already"):
        compare.export_and_compare(str(folder / "out" / "fp32"), "main", tmp_path / "out")


def test_a_damaged_export(exported, tmp_path):
    folder, _ = exported
    shutil.copytree(folder / "out" / "fp32", tmp_path / "fp32")
    (tmp_path / "fp32" / "model.onnx").write_bytes(b"cut")
    with pytest.raises(RequestError, match="cannot load .*fp32: "):
        Scorer(str(tmp_path / "fp32"))


def test_an_export_that_was_not_measured_replaces_nothing(exported, tmp_path, monkeypatch):
    folder, _ = exported
    (tmp_path / "fp32").mkdir()
    (tmp_path / "fp32" / "model.onnx").write_text("old")
    (tmp_path / "export.json").write_text("old")

    def fail(model, revision, folders, *others):
        shutil.copytree(folder / "out" / "fp32", folders["fp32"], dirs_exist_ok=True)
        (folders["fp32"] / "model.onnx").write_bytes(b"cut")
        return {}

    monkeypatch.setattr(compare, "write_exports", fail)
    with pytest.raises(RequestError, match="cannot load .*fp32"):
        compare.export_and_compare(str(folder / "model"), "main", tmp_path, labelled(folder))
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()) == [
        "export.json",
        "fp32/model.onnx",
    ]
    assert (tmp_path / "export.json").read_text() == "old"


def test_no_pickle_is_exported(exported, tmp_path):
    folder, _ = exported
    shutil.copytree(folder / "model", tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").rename(tmp_path / "model" / "pytorch_model.bin")
    with pytest.raises(RequestError, match="holds its weights as a pickle"):
        compare.export_and_compare(str(tmp_path / "model"), "main", tmp_path / "out", labelled(folder))


def test_an_output_that_cannot_be_written_to(exported, tmp_path):
    folder, _ = exported
    (tmp_path / "file").write_text("x")
    with pytest.raises(RequestError, match="cannot write to .*: Not a directory. .* name another folder as --output"):
        compare.export_and_compare(str(folder / "model"), "main", tmp_path / "file" / "out")


def test_an_export_scores_as_torch_does(exported):
    folder, _ = exported
    texts = [text for text, _ in make_comments(40, seed=7)]
    expected = Scorer(str(folder / "model"), device="cpu", mixed_precision="no", runtime="torch")(texts)
    scorer = Scorer(str(folder / "out" / "fp32"))
    assert scorer.runtime == "onnxruntime"
    assert (scorer.temperature, scorer.threshold) == (2.0, 0.4), "what the run wrote travels along"
    assert scorer(texts) == pytest.approx(expected, abs=1e-5)
    assert scorer(texts[:1]) == pytest.approx(expected[:1], abs=1e-5), "one row is as good as many"


def test_what_differs_is_kept_with_the_export(exported):
    folder, report = exported
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["export.json", "fp32"]
    assert not (folder / "out" / "fp32" / "old.onnx").exists()
    assert report["rows"] == 60
    assert 0 <= report["torch"]["auc"] <= 1
    assert report["fp32"]["auc"] == pytest.approx(report["torch"]["auc"], abs=0.01)
    texts = [text for text, _ in make_comments(60)]
    found = Scorer(str(folder / "out" / "fp32"))(texts)
    expected = Scorer(str(folder / "model"), device="cpu", mixed_precision="no", runtime="torch")(texts)
    assert report["fp32"]["largest_score_difference"] == np.abs(found - expected).max()
    assert report["fp32"]["mean_score_difference"] == np.abs(found - expected).mean()
    assert report["fp32"]["megabytes"] > 0
    assert report["fp32"]["rows_per_second"] > 0
    assert report["fp32"]["thresholds"]["default"] == report["torch"]["thresholds"]["default"]


def test_what_the_tokenizer_of_an_export_makes_is_what_its_model_takes(exported):
    folder, _ = exported
    assert "token_type_ids" in AutoTokenizer.from_pretrained(folder / "model")("a")
    theirs = AutoTokenizer.from_pretrained(folder / "out" / "fp32")
    session = onnxruntime.InferenceSession(folder / "out" / "fp32" / "model.onnx")
    texts = [text for text, _ in make_comments(3)]
    (logits,) = session.run(None, dict(theirs(texts, padding=True, return_tensors="np")))
    scores = Scorer(str(folder / "out" / "fp32"))(texts)
    assert 1 / (1 + np.exp(-logits[:, 0] / 2)) == pytest.approx(scores, abs=1e-5)


def test_an_export_keeps_the_labels_that_were_asked_for(tmp_path, tiny_config, tokenizer):
    names = ["hate", "offensive", "neither"]
    classes = {"num_labels": 3, "id2label": dict(enumerate(names)), "problem_type": None, "num_hidden_layers": 1}
    model = BertForSequenceClassification(tiny_config.__class__(**tiny_config.to_dict() | classes))
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    write_csv(tmp_path / "labelled.csv", ["body", "bad"], make_comments(8))
    asked = (str(tmp_path / "model"), "main", tmp_path / "out", labelled(tmp_path))
    with pytest.raises(RequestError, match="--toxic_label what: .* has no such label"):
        compare.export_and_compare(*asked, ["what"])
    compare.export_and_compare(*asked, ["0", "Offensive"])
    kept = json.loads((tmp_path / "out" / "fp32" / "config.json").read_text())["toxicity"]
    assert kept == {"toxic_label": ["hate", "offensive"]}
    asked = {"device": "cpu", "mixed_precision": "no", "runtime": "torch", "toxic_label": ["hate", "offensive"]}
    expected = Scorer(str(tmp_path / "model"), **asked)
    texts = [text for text, _ in make_comments(5)]
    assert Scorer(str(tmp_path / "out" / "fp32"))(texts) == pytest.approx(expected(texts), abs=1e-5)
    other = Scorer(str(tmp_path / "out" / "fp32"), toxic_label="neither")
    assert other(texts) == pytest.approx(1 - expected(texts), abs=1e-5)


def test_it_is_measured_on_whole_rows_only(exported, tmp_path):
    folder, _ = exported
    write_csv(tmp_path / "bad.csv", ["text", "target"], [["x", 1], ["y", 7]])
    bad = DataArguments(train_file=str(tmp_path / "bad.csv"))
    with pytest.raises(RequestError, match="row 2: the target is not from 0 to 1"):
        compare.export_and_compare(str(folder / "model"), "main", tmp_path / "out", bad)


def test_the_sample_rows_are_those_its_recipe_validates_on(monkeypatch):
    recipe = parse_arguments([]).data
    for name in ("dataset_name", "max_train_samples", "max_eval_samples"):
        assert getattr(SAMPLE, name) == getattr(recipe, name)
    comments = read_comments(SAMPLE, "nothing", calibrate=True)
    assert comments.texts == load_splits(recipe).validation["text"][:]
    assert len(comments.labels) == 2000
    assert len(set(comments.calibrating) - set(comments.texts)) == len(comments.calibrating) == 900


def test_an_export_has_the_mode_of_any_new_file(exported):
    folder, _ = exported
    (folder / "new").touch()
    modes = {path.stat().st_mode for path in (folder / "out" / "fp32").iterdir()}
    assert modes == {(folder / "new").stat().st_mode}
