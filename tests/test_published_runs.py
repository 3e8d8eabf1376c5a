"""Runs with `--push_to_hub`, against a Hub on loopback."""

import csv
import json
import sys

import pyarrow.parquet
import pytest
from hub_server import WRITE_TOKEN
from processes import flags, run, two_ranks
from sklearn.metrics import roc_auc_score

from toxicity.hub.push import push_run


def test_a_run_is_published_and_scores_from_there_as_it_did_here(
    checkpoint, comments_csv, tmp_path, run_main, hub, capsys
):
    options = [*flags(checkpoint, comments_csv, tmp_path / "run"), "--save_strategy", "epoch", "--save_total_limit", 1]
    run_main(*options, "--push_to_hub", "--hub_model_id", "toxic-comments")
    told = "".join(capsys.readouterr()).encode()
    told += b"".join(path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file())
    assert WRITE_TOKEN.encode() not in told
    assert {name for name in hub.files("tester/toxic-comments") if not name.endswith(".png")} == {
        *("README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
        "report/benchmark.json",
    }
    with comments_csv.open(encoding="utf-8") as file:
        comments = {int(row["id"]): row["comment_text"] for row in csv.DictReader(file)}
    received = hub.received()
    assert not [comment for comment in comments.values() if comment.encode() in received]
    for private in (str(tmp_path), str(checkpoint), "hf_"):
        assert private.encode() not in received

    from huggingface_hub import snapshot_download
    from transformers import pipeline

    loaded = snapshot_download("tester/toxic-comments", cache_dir=tmp_path / "empty")
    classify = pipeline("text-classification", loaded, truncation=True, max_length=32)
    predictions = pyarrow.parquet.read_table(tmp_path / "run" / "report" / "predictions.parquet").to_pydict()
    scores = [result["score"] for result in classify([comments[row] for row in predictions["id"]])]
    assert scores == pytest.approx(predictions["score"], abs=1e-5)


def test_a_run_that_cannot_be_published_is_whole_and_says_how_to_go_on(
    checkpoint, comments_csv, tmp_path, run_main, hub, capsys, monkeypatch
):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(SystemExit) as stop:
        run_main(
            *flags(checkpoint, comments_csv, tmp_path / "run"), "--push_to_hub", "--hub_model_id", "toxic-comments"
        )
    assert stop.value.code == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out.splitlines()[-1])["metrics"]["auc"] > 0.95
    assert f"python -m toxicity.hub {tmp_path / 'run'} --repo toxic-comments" in printed.err
    assert "Traceback" not in printed.err
    monkeypatch.setenv("HF_TOKEN", WRITE_TOKEN)
    push_run(tmp_path / "run", "toxic-comments")
    assert "model.safetensors" in hub.files("tester/toxic-comments")


@pytest.fixture
def on_the_hub(hub, home, tmp_path):
    """Environment of processes that publish on the Hub of the test."""
    there = {"HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    return home | there | {"HF_HOME": str(tmp_path / "huggingface"), "HF_HUB_DISABLE_TELEMETRY": "1"}


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]


TWO_PROCESSES = [*TORCHRUN, "--nproc_per_node", 2, "run_toxicity.py"]


PUSH = ["--push_to_hub", "--hub_model_id", "toxic-comments"]


def test_two_processes_score_every_comment_once_in_order_and_publish_once(
    checkpoint, comments_csv, tmp_path, hub, on_the_hub
):
    options = ["--use_cpu", "--max_train_samples", 79, "--max_eval_samples", 41, *PUSH]
    done = run(*TWO_PROCESSES, *flags(checkpoint, comments_csv, tmp_path / "run"), *options, **on_the_hub)
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(rows) == 1, "one process speaks"
    row = json.loads(rows[0])
    assert row["machine"]["device_count"] == 2
    predictions = pyarrow.parquet.read_table(tmp_path / "run" / "report" / "predictions.parquet")
    assert len(set(predictions["id"].to_pylist())) == len(predictions) == 41
    assert roc_auc_score(predictions["label"], predictions["score"]) == pytest.approx(row["metrics"]["auc"])
    assert row["metrics"]["auc"] > 0.95
    assert len(hub.calls("POST", "/repos/create")) == 2, "before training and at the end, by one process"
    assert len(hub.calls("POST", "/commit/")) == 1
    weights = (tmp_path / "run" / "model.safetensors").read_bytes()
    assert hub.files("tester/toxic-comments")["model.safetensors"] == weights


def test_two_processes_that_the_hub_refuses_come_to_their_end_and_lose_nothing(checkpoint, comments_csv, tmp_path, hub):
    hub.fail("POST", "/commit/", 403)
    options = ["--num_train_epochs", 2, "--save_strategy", "epoch", "--hub_strategy", "every_save", *PUSH]
    options = [*flags(checkpoint, comments_csv, tmp_path / "run"), *options]
    use_hub = ("use_hub", hub.endpoint)
    first, second = two_ranks(tmp_path, *options, faults=(use_hub, use_hub), HF_TOKEN=WRITE_TOKEN)
    assert [first.ended(), second.ended()] == [1, 0], first.errors + second.errors
    assert "was not published, and training goes on: the token may not write to tester/toxic-comments" in first.errors
    assert (first.errors + second.errors).count("error: the token may not write to tester/toxic-comments") == 1
    command = f"python -m toxicity.hub {tmp_path / 'run'} --repo tester/toxic-comments"
    assert f"The run is whole in {tmp_path / 'run'}. To publish it: {command}" in first.errors
    assert first.row == json.loads((tmp_path / "run" / "report" / "benchmark.json").read_text())
    assert hub.files("tester/toxic-comments") == {}
    hub.heal()
    push_run(tmp_path / "run", "toxic-comments")
    assert {"README.md", "model.safetensors", "report/benchmark.json"} <= set(hub.files("tester/toxic-comments"))
