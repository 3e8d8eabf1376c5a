"""Models that are converted to OpenVINO: the same scores as torch, and the cache that they are kept in."""

import importlib.util
import os
import sys
from importlib.machinery import PathFinder

import numpy as np
import pytest
import torch
from builders import make_comments, write_texts
from exporting import needs_exporters
from families import model_of
from processes import PredictRun, ended_well

from toxicity.core.errors import RequestError
from toxicity.predict import converted as module
from toxicity.predict.converted import converted
from toxicity.predict.scorer import Scorer

TEXTS = [text for text, _ in make_comments(70)]


@pytest.fixture
def conversions(monkeypatch):
    """How many conversions there were; none takes time, as each is the same model of one logit."""
    done = []

    def convert(classifier, tokenizer):
        done.append(classifier)
        import openvino
        from openvino import opset13 as ops

        names = {name: ops.parameter([-1, -1], np.int64, name=name) for name in ("input_ids", "attention_mask")}
        for name, parameter in names.items():
            parameter.get_output_tensor(0).set_names({name})
        total = ops.reduce_sum(ops.convert(ops.multiply(*names.values()), np.float32), 1, keep_dims=True)
        result = ops.result(ops.multiply(total, np.float32(1e-3)))
        result.get_output_tensor(0).set_names({"logits"})
        return openvino.Model([result], list(names.values()), "model")

    monkeypatch.setattr(module, "to_openvino", convert)
    monkeypatch.setattr(module, "_difference", lambda *_: 0.0)
    return done


@pytest.fixture
def convert(tiny_model, tokenizer):
    def call(weights_digest="0"):
        return converted(tiny_model.eval(), tokenizer, weights_digest, 64)

    return call


def folders_in(tmp_path):
    return sorted(path.name for path in (tmp_path / "assets/toxicity/openvino").iterdir() if path.is_dir())


# Labels of each family: one, several independent ones, and exclusive classes.
LABELS = {
    "bert": ("toxic",),
    "roberta": ("identity_hate", "toxic", "threat"),
    "modernbert": ("hate", "offensive", "neither"),
    "distilbert": ("toxic",),
    "deberta-v2": ("toxic",),
}


@pytest.mark.parametrize(
    "family", [*list(LABELS)[:3], *(pytest.param(family, marks=pytest.mark.long) for family in list(LABELS)[3:])]
)
def test_scores_are_those_of_torch(openvino, tmp_path, tokenizer, family):
    needs_exporters()
    labels = LABELS[family]
    exclusive = "neither" in labels
    options = {"vocab_size": len(tokenizer), "max_position_embeddings": 70, "initializer_range": 0.2}
    options |= {"pad_token_id": tokenizer.pad_token_id}
    model = model_of(family, attention=None, num_labels=len(labels), **options)
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {label: index for index, label in enumerate(labels)}
    model.config.problem_type = "single_label_classification" if exclusive else "multi_label_classification"
    model.config.toxicity = {"max_seq_length": 50, "head_tail_truncation": family == "roberta", "temperature": 1.5}
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    toxic = ["hate", "offensive"] if exclusive else ()
    found = Scorer(str(tmp_path), device="cpu", mixed_precision="no", toxic_label=toxic)
    expected = Scorer(str(tmp_path), device="cpu", mixed_precision="no", toxic_label=toxic, runtime="torch")
    assert (found.runtime, expected.runtime) == ("openvino", "torch")
    assert found.weights_digest == expected.weights_digest
    assert found(TEXTS) == pytest.approx(expected(TEXTS), abs=1e-4)
    assert expected(TEXTS).std() > 1e-3
    alone = np.concatenate([found([text]) for text in TEXTS[:9]])
    assert alone == pytest.approx(found(TEXTS)[:9], abs=1e-5)
    table = found.tokenize(TEXTS)
    assert found.probabilities(table)[:, 0].tolist() == found(TEXTS).tolist(), "with a table and without one"
    assert found.probabilities(table) == pytest.approx(expected.probabilities(table), abs=1e-4)
    assert found.probabilities(table).shape == (len(TEXTS), 3 if len(labels) == 3 and not exclusive else 1)


def test_a_model_is_converted_once_and_the_log_says_so(openvino, conversions, model_dir, tmp_path, caplog):
    with caplog.at_level("INFO", logger="toxicity"):
        first = Scorer(str(model_dir), device="cpu", mixed_precision="no")
        scores = first(TEXTS)
        second = Scorer(str(model_dir), device="cpu", mixed_precision="no")
    assert len(conversions) == 1
    assert second(TEXTS).tolist() == scores.tolist()
    assert [name in caplog.text for name in folders_in(tmp_path)] == [True]
    said = [record.getMessage() for record in caplog.records]
    assert [line.split(" (")[0].startswith("Scoring with OpenVINO 20") for line in said] == [False, True, True]


def test_other_weights_configs_and_versions_are_other_models(
    openvino, conversions, convert, tiny_model, tmp_path, monkeypatch
):
    convert("a"), convert("b"), convert("a")
    assert len(conversions) == 2
    tiny_model.config.layer_norm_eps = 1e-3
    convert("a")
    version = module.version
    for package in ("openvino", "transformers", "torch"):
        monkeypatch.setattr(module, "version", lambda name, package=package: version(name) + "1" * (name == package))
        convert("a")
    assert len(conversions) == len(folders_in(tmp_path)) == 6


def test_only_those_used_last_are_kept(openvino, conversions, convert, tmp_path):
    for index in range(module.MODELS_KEPT):
        convert(str(index))
        os.utime(tmp_path / "assets/toxicity/openvino" / folders_in(tmp_path)[0], (index, index))
    for path in (tmp_path / "assets/toxicity/openvino").iterdir():
        os.utime(path, (1, 1))
    convert("0")
    convert("new")
    assert len(folders_in(tmp_path)) == module.MODELS_KEPT
    before = len(conversions)
    convert("0"), convert("new")
    assert len(conversions) == before


@pytest.mark.parametrize("name", ["openvino_model.xml", "openvino_model.bin"])
def test_a_damaged_model_is_made_again(openvino, conversions, convert, tmp_path, name):
    convert()
    path = next((tmp_path / "assets").rglob(name))
    path.write_bytes(b"")
    convert()
    assert len(conversions) == 2
    assert path.stat().st_size > 0


def test_where_the_cache_cannot_be_written_the_model_is_in_memory(openvino, conversions, convert, tmp_path, caplog):
    (tmp_path / "assets").write_text("a file, as even root cannot write below it")
    with caplog.at_level("INFO", logger="toxicity"):
        assert convert() is not None
    assert "in memory: " in caplog.text
    assert len(conversions) == 1


def test_where_the_disk_is_full_the_model_is_in_memory(openvino, conversions, convert, tmp_path, monkeypatch, caplog):
    def fail(*_, **__):
        raise RuntimeError("basic_ios::clear: iostream error")

    monkeypatch.setattr(openvino, "save_model", fail)
    with caplog.at_level("INFO", logger="toxicity"):
        assert convert().inputs
    assert "in memory" in caplog.records[-1].getMessage()
    assert folders_in(tmp_path) == []
    assert len(conversions) == 1


def test_a_cache_that_can_only_be_read_is_read(openvino, conversions, convert, tmp_path, monkeypatch):
    convert()
    monkeypatch.setattr(module, "FileLock", lambda path: pytest.fail("written to"))
    monkeypatch.setattr(os, "utime", lambda path: (_ for _ in ()).throw(PermissionError()))
    convert()
    assert len(conversions) == 1


def test_what_cannot_be_converted_is_computed_by_torch(openvino, model_dir, monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError("no such operator\n in line 2")

    monkeypatch.setattr(module, "to_openvino", fail)
    with caplog.at_level("INFO", logger="toxicity"):
        scorer = Scorer(str(model_dir), device="cpu", mixed_precision="no")
    assert scorer.runtime == "torch"
    assert caplog.records[-1].getMessage() == (
        "Scoring with torch: OpenVINO cannot compute this model (bert; RuntimeError: no such operator in line 2)."
    )
    torch_alone = Scorer(str(model_dir), device="cpu", mixed_precision="no", runtime="torch")
    assert scorer(TEXTS).tolist() == torch_alone(TEXTS).tolist()
    with pytest.raises(RequestError, match="OpenVINO cannot compute this model"):
        Scorer(str(model_dir), device="cpu", runtime="openvino")


def test_whatever_fails_in_openvino_torch_computes(openvino, model_dir, monkeypatch, caplog):
    monkeypatch.setattr("toxicity.predict.scorer.converted", lambda *_: {}["no such key"])
    with caplog.at_level("INFO", logger="toxicity"):
        assert Scorer(str(model_dir), device="cpu", mixed_precision="no").runtime == "torch"
    message = "Scoring with torch: OpenVINO failed (KeyError: 'no such key')."
    assert [record.getMessage() for record in caplog.records] == [message]


def test_what_cannot_be_converted_is_tried_once(openvino, convert, monkeypatch, tmp_path):
    tried = []
    monkeypatch.setattr(module, "to_openvino", lambda *_: tried.append(1) or {}["no such key"])
    with pytest.raises(RequestError, match="OpenVINO cannot compute this model") as first:
        convert()
    path = next((tmp_path / "assets").rglob("*.txt"))
    with pytest.raises(RequestError) as second:
        convert()
    assert len(tried) == 1
    assert str(second.value) == f"{first.value} To try again, remove {path}."
    with pytest.raises(RequestError):
        convert("other weights")
    assert len(tried) == 2
    path.unlink()
    with pytest.raises(RequestError):
        convert()
    assert len(tried) == 3


@pytest.mark.parametrize("factor", [1, np.nan])
def test_a_conversion_that_computes_something_else_is_not_used(openvino, convert, monkeypatch, factor):
    monkeypatch.setattr(module, "LONGEST_TRIED", 20)
    monkeypatch.setattr(module, "to_openvino", lambda *_: wrong_model(factor))
    with pytest.raises(RequestError, match="its logits would differ by"):
        convert()


def wrong_model(factor):
    from openvino import Model
    from openvino import opset13 as ops

    names = {name: ops.parameter([-1, -1], np.int64, name=name) for name in ("input_ids", "attention_mask")}
    for name, parameter in names.items():
        parameter.get_output_tensor(0).set_names({name})
    total = ops.reduce_sum(ops.convert(ops.add(*names.values()), np.float32), 1, keep_dims=True)
    logits = ops.result(ops.multiply(total, np.float32(factor)))
    logits.get_output_tensor(0).set_names({"logits"})
    return Model([logits], list(names.values()), "wrong")


def test_openvino_that_is_not_installed(model_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr("toxicity.predict.runtimes.find_spec", __import__("importlib.util").util.find_spec)
    assert Scorer(str(model_dir), device="cpu").runtime == "torch"
    with pytest.raises(RequestError, match="not installed .*: pip install -r requirements-openvino.txt"):
        Scorer(str(model_dir), device="cpu", runtime="openvino")


def test_a_folder_of_that_name_is_not_openvino(model_dir, monkeypatch, tmp_path):
    """Such as the one that exports were written to, where Python runs."""
    (tmp_path / "openvino").mkdir()
    monkeypatch.setitem(sys.modules, "openvino", None)  # restored at the end, whatever is imported here
    del sys.modules["openvino"]
    # Only the folder is found, as where the extra is not installed.
    monkeypatch.setattr(sys, "meta_path", [OnlyFolder(tmp_path), *sys.meta_path])
    monkeypatch.setattr("toxicity.predict.runtimes.find_spec", importlib.util.find_spec)
    assert Scorer(str(model_dir), device="cpu").runtime == "torch"
    with pytest.raises(RequestError, match="OpenVINO is not installed"):
        Scorer(str(model_dir), device="cpu", runtime="openvino")


class OnlyFolder:
    """Finds the package `openvino` in one folder alone."""

    def __init__(self, folder):
        self.folder = str(folder)

    def find_spec(self, name, path=None, target=None):
        return PathFinder.find_spec(name, [self.folder]) if name == "openvino" else None


def test_two_processes_convert_once(openvino, model_dir, tmp_path):
    needs_exporters()
    write_texts(tmp_path / "in.csv")
    flags = ["--model", model_dir, "--input", tmp_path / "in.csv", "--runtime", "openvino", "--output"]
    environment = {"HF_ASSETS_CACHE": str(tmp_path / "assets")}
    runs = [PredictRun(tmp_path / name, *flags, tmp_path / f"out-{name}", **environment) for name in "ab"]
    said = [ended_well(run).errors for run in runs]
    assert sum("Converting the model to OpenVINO, once" in errors for errors in said) == 1
    assert (tmp_path / "out-a/in.parquet").read_bytes() == (tmp_path / "out-b/in.parquet").read_bytes()
    assert len(folders_in(tmp_path)) == 1


def test_all_threads_of_torch_are_those_of_openvino(openvino, conversions, convert):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        model = module.OpenVinoModel(convert(), 1, "no")
        assert model._free_requests.get().get_compiled_model().get_property("INFERENCE_NUM_THREADS") == 1
    finally:
        torch.set_num_threads(before)
