import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from exporting import needs_exporters
from transformers import BertForSequenceClassification

from benchmarks import conversions, predict, scoring_contenders
from benchmarks.predict import CONTENDERS, Running, is_installed, prepare
from benchmarks.predict_report import print_table, ratios, summarise
from benchmarks.scoring_task import (
    ScoringTask,
    best_settings,
    cut_short,
    environment,
    fill_batches,
    longest_first,
    padded,
)
from toxicity.core.errors import RequestError
from toxicity.models.classifier import with_labels

# Those of DESIGN.md, but for the memory, which is measured apart.
CONTRACT = {
    *("vs_pipeline", "vs_scoring_loop", "vs_openvino_bf16", "vs_openvino_int8", "vs_ctranslate2_int8"),
    *("vs_onnxruntime_int8", "int8_vs_bf16", "int8_auc_loss", "int8_largest_score_difference", "short_texts_vs_tokens"),
}
ROWS = 24
ONE, SEVERAL = ("toxic",), ("toxic", "insult", "threat")


def rates(loop=None, file=None, **more):
    found = {"loop_rows_per_second": loop, "file_rows_per_second": file}
    return {key: value for key, value in found.items() if value} | more


TABLE = {
    "reference": {"auc": 0.9},
    "ours_int8": rates(
        **{"loop": 500.0, "file": 400.0, "auc": 0.8996, "p50_ms": 9.0},
        **{"largest_score_difference": 0.07, "mean_score_difference": 0.003},
        **{"tokens_per_second": 38_000.0, "short_tokens_per_second": 19_000.0},
    ),
    "ours": rates(300.0, 240.0),
    "ours_torch": rates(250.0),
    "ours_int8_without_bf16": rates(450.0),
    "ours_fp32_without_bf16": rates(100.0),
    "openvino_int8": rates(625.0),
    "openvino_bf16": rates(400.0),
    "ctranslate2_int8": rates(200.0),
    "onnxruntime_int8": rates(250.0),
    "pipeline": rates(file=60.0),
    "cross_encoder": rates(file=80.0),
}


def test_ratios_are_above_1_where_this_package_is_faster():
    got = ratios(TABLE)
    assert got.keys() >= CONTRACT
    assert got == pytest.approx(
        {
            "vs_pipeline": 4.0,
            "vs_cross_encoder": 3.0,
            "vs_scoring_loop": 0.8,
            "vs_openvino_bf16": 0.75,
            "vs_openvino_int8": 0.8,
            "file_to_file_vs_openvino_int8": 0.64,
            "vs_ctranslate2_int8": 2.5,
            "vs_onnxruntime_int8": 2.0,
            "int8_vs_bf16": 2.0,
            "int8_vs_fp32_without_bf16": 4.5,
            "int8_auc_loss": 0.0004,
            "int8_largest_score_difference": 0.07,
            "int8_mean_score_difference": 0.003,
            "short_texts_vs_tokens": 0.5,
            "one_comment_p50_ms": 9.0,
        }
    )
    assert set(ratios({}).values()) == {None}


@pytest.mark.parametrize(
    ("left_out", "keys"),
    [
        ("ctranslate2_int8", {"vs_ctranslate2_int8"}),
        ("cross_encoder", {"vs_cross_encoder"}),
        ("openvino_int8", {"vs_openvino_int8", "file_to_file_vs_openvino_int8"}),
        ("ours_torch", {"int8_vs_bf16"}),
    ],
)
def test_ratios_to_what_was_left_out_are_null(left_out, keys):
    got = ratios({name: row for name, row in TABLE.items() if name != left_out})
    assert {key for key, value in got.items() if value is None} == keys


@pytest.mark.parametrize(
    ("name", "package", "file"),
    [
        ("ctranslate2_int8", "ctranslate2", "requirements-bench.txt"),
        ("cross_encoder", "sentence_transformers", "requirements-bench.txt"),
        ("openvino_int8", "nncf", "requirements-openvino.txt"),
        ("onnxruntime_int8", "onnxruntime", "requirements-onnx.txt"),
    ],
)
def test_a_contender_without_its_package_is_left_out_with_a_line(monkeypatch, capsys, name, package, file):
    monkeypatch.setattr(predict, "find_spec", lambda wanted: None if wanted == package else wanted)
    assert not is_installed(name)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"{package} is not installed" in said
    assert file in said
    assert is_installed("ours")


def rows_of(*lengths):
    return [np.arange(1, length + 1) for length in lengths]


def test_batches_hold_at_most_so_many_places():
    batches = fill_batches(rows_of(9, 4, 4, 3, 2, 2), 8)
    assert [[len(row) for row in batch] for batch in batches] == [[9], [4, 4], [3, 2], [2]]
    ids, mask = padded(rows_of(3, 1), 4)
    assert ids.tolist() == [[1, 2, 3, 0], [1, 0, 0, 0]]
    assert mask.tolist() == [[1, 1, 1, 0], [1, 0, 0, 0]]
    assert longest_first(rows_of(2, 5, 2)).tolist() == [1, 0, 2]


def test_short_comments_have_as_many_tokens_in_total():
    short = cut_short(rows_of(20, 3, 7))
    assert {len(row) for row in short} == {6}
    assert len(short) == 5
    assert short[0].tolist() == [1, 2, 3, 4, 5, 20]


def test_the_fastest_settings_are_found_once(tmp_path, monkeypatch):
    clock = SimpleNamespace(now=0.0, perf_counter=lambda: clock.now)
    monkeypatch.setattr("benchmarks.scoring_task.time", clock)
    calls = []

    def run(places, workers):
        calls.append((places, workers))
        clock.now += places + {1: 5, 2: 3}[workers]

    task = ScoringTask(str(tmp_path), "model", {}, 2)
    choices = {"places": (30, 10, 20), "workers": (1, 2)}
    assert best_settings(task, "one", choices, run) == {"places": 10, "workers": 2}
    assert calls == [(30, 1)] * 2 + [(10, 1)] * 2 + [(20, 1)] * 2 + [(10, 2)] * 2
    assert best_settings(task, "one", choices, None) == {"places": 10, "workers": 2}


def test_bf16_is_hidden_on_request(monkeypatch):
    monkeypatch.delenv("DNNL_MAX_CPU_ISA", raising=False)
    assert environment(True)["DNNL_MAX_CPU_ISA"] == "AVX512_CORE_VNNI"
    assert "DNNL_MAX_CPU_ISA" not in environment(False)
    assert {name for name, contender in CONTENDERS.items() if contender.without_bf16} == {
        *("ours_int8_without_bf16", "ours_fp32_without_bf16")
    }


def test_without_a_model_it_says_how_to_make_one(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["predict", "--model", str(tmp_path / "none")])
    with pytest.raises(RequestError, match="run `make demo` first"):
        predict.main()


@pytest.fixture
def labels():
    return ONE


@pytest.fixture
def task(labels, tiny_config, tokenizer, tmp_path, monkeypatch):
    torch.manual_seed(0)
    BertForSequenceClassification(with_labels(tiny_config, labels)).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    monkeypatch.setattr(conversions, "CALIBRATION_COMMENTS", 4)
    monkeypatch.setattr(scoring_contenders, "CALLS", 8)
    monkeypatch.setattr(scoring_contenders, "TEXT_BATCHES", (4,))
    monkeypatch.setattr("benchmarks.engines.BATCHES", {"places": (64,), "multiple": (8,)})
    monkeypatch.setattr("huggingface_hub.constants.HF_ASSETS_CACHE", str(tmp_path / "assets"))
    (tmp_path / "bench").mkdir()
    return prepare(tmp_path / "bench", str(tmp_path / "model"), ROWS)


@pytest.mark.parametrize(
    ("name", "packages", "labels"),
    [
        ("ours", (), ONE),
        ("ours", (), SEVERAL),
        ("ours_fp32_without_bf16", (), ONE),
        ("pipeline", (), ONE),
        ("pipeline", (), SEVERAL),
        ("openvino_int8", ("openvino", "nncf"), ONE),
        ("onnxruntime_int8", ("onnx", "onnxscript", "onnxruntime"), ONE),
        ("ctranslate2_int8", ("ctranslate2",), ONE),
        ("cross_encoder", ("sentence_transformers",), ONE),
        ("cross_encoder", ("sentence_transformers",), SEVERAL),
    ],
)
def test_a_contender_scores_the_comments(task, capsys, name, packages):
    for package in packages:
        pytest.importorskip(package, reason=f"{package} is not installed")
    if {"nncf", "onnxscript"} & {*packages}:
        needs_exporters()
    task, labels, tokens = task
    conversions.reference(task)
    if CONTENDERS[name].conversion:
        conversions.CONVERSIONS[CONTENDERS[name].conversion](task)
    found = scoring_contenders.CONTENDERS[name](name, task)
    table = summarise(task, {name: [found] * 3}, labels, tokens)
    # int8 of a model of random weights, calibrated on few comments.
    assert table[name]["largest_score_difference"] < (0.1 if "int8" in name else 0.05)
    assert table[name]["loop_rows_per_second" if "loop" in found else "file_rows_per_second"] > 0
    scored = ROWS if found["rows"] == ROWS else ROWS // scoring_contenders.SLOW_SHARE
    assert (~np.isnan(np.load(task.path(f"{name}.npy")))).sum() == found["rows"] == scored
    json.dumps(table)
    capsys.readouterr()
    print_table(table, {"reference": "fp32", name: "this one"})
    assert "this one" in capsys.readouterr().out


def test_what_fails_is_left_out_and_told(task, capsys, monkeypatch):
    def run(command, stdout, text, env):
        name = command[3]
        failed = name in ("ctranslate2", "pipeline")
        return SimpleNamespace(returncode=int(failed), stdout="" if failed else '{"rows": 24}\n')

    monkeypatch.setattr(predict.subprocess, "run", run)
    running = Running(task[0], ["ours", "ctranslate2_int8", "pipeline"])
    assert running.rounds(2) == {"ours": [{"rows": 24}] * 2}
    assert running.failed == {"ctranslate2", "pipeline"}
    assert "pipeline is left out: it failed with exit code 1" in capsys.readouterr().err
