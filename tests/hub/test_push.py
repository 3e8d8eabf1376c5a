import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from builders import make_comments
from hub_server import WRITE_TOKEN
from huggingface_hub import CommitOperationAdd, HfApi, snapshot_download
from published_run import BENCHMARK, PNG, PUBLISHED, REPO

from toxicity.core.errors import PublishError, RequestError
from toxicity.hub.__main__ import main
from toxicity.hub.push import check_access, push_checkpoint, push_run


def test_what_is_published_is_the_allow_list_and_tells_nothing_else(hub, finished_run):
    assert push_run(finished_run, "toxic-comments") == f"{hub.endpoint}/{REPO}"
    files = hub.files(REPO)
    assert set(files) == PUBLISHED
    assert files["model.safetensors"] == (finished_run / "model.safetensors").read_bytes()
    assert hub.repos[REPO].commits[hub.repos[REPO].branches["main"]]["report/roc.png"][0] == "lfs"
    assert len(hub.calls("POST", "/commit/")) == 1

    received = hub.received()
    predictions = (finished_run / "report" / "predictions.parquet").read_bytes()
    for text, _ in make_comments(40, seed=5):
        assert text.encode() not in received
    for private in (
        predictions[:64],
        b"moments",
        WRITE_TOKEN.encode(),
        b"jane.doe",
        b"secret",
        str(finished_run).encode(),
    ):
        assert private not in received
    assert str(finished_run.parent).encode() not in received
    assert json.loads(files["report/benchmark.json"])["protocol"]["model"] == "base"
    assert json.loads(files["config.json"])["vocab_source"] == "vocab.txt"
    assert json.loads((finished_run / "report" / "benchmark.json").read_text()) == BENCHMARK, (
        "the run itself is left alone"
    )


SCORE_WITH_THE_CARD = """
import json, re, sys
from huggingface_hub import hf_hub_download
card = open(hf_hub_download(sys.argv[1], "README.md"), encoding="utf-8").read()
example = re.search(r"```python\\n(.*?)```", card, re.DOTALL)[1]
assert f'"{sys.argv[1]}"' in example
names = {}
exec(example, names)
print(json.dumps([result["score"] for result in names["classify"](json.load(sys.stdin))]))
"""


def test_the_example_of_the_card_scores_as_the_run_did(hub, finished_run, tmp_path):
    push_run(finished_run, "toxic-comments")
    before = len(hub.requests)
    done = subprocess.run(
        [sys.executable, "-c", SCORE_WITH_THE_CARD, REPO],
        input=json.dumps([text for text, _ in make_comments(40, seed=5)]),
        env={name: value for name, value in os.environ.items() if name != "HF_TOKEN"}
        | {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "empty"), "HF_HUB_OFFLINE": "0"}
        | {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *example, scores = done.stdout.splitlines()
    assert [line.split()[1] in ("toxic", "civil") for line in example] == [True, True]
    of_the_run = pyarrow.parquet.read_table(finished_run / "report" / "predictions.parquet")["score"].to_numpy()
    np.testing.assert_allclose(json.loads(scores), of_the_run, atol=1e-6)
    assert np.unique(np.round(of_the_run, 4)).size > 10
    loaded = [call for call in hub.requests[before:] if call.method == "GET" and call.path.startswith("/storage/")]
    assert len(loaded) == 1, "the weights came from the Hub"


def test_a_push_that_broke_off_goes_on_without_sending_what_had_arrived(hub, finished_run):
    weights = (finished_run / "model.safetensors").stat().st_size
    (finished_run / "report" / "bias.png").write_bytes(PNG + b"bias" * 50_000)
    hub.drop("PUT", rf"/storage/\w+/{weights}$", after_bytes=weights // 2)
    with pytest.raises(PublishError) as stop:
        push_run(finished_run, REPO, private=True, revision=None)
    message = str(stop.value)
    assert len(message.splitlines()) == 2
    assert f"python -m toxicity.hub {finished_run} --repo {REPO} --private" in message
    assert "model.safetensors" in message
    assert "signature" not in message
    assert hub.files(REPO) == {}, "no commit of half a run"
    arrived = {call.path for call in hub.calls("PUT", "/storage/") if call.status == 200}
    assert len(arrived) == 3, "the pictures"

    hub.heal()
    before = len(hub.requests)
    push_run(finished_run, REPO)
    sent = [call for call in hub.requests[before:] if call.method == "PUT"]
    assert [len(call.body) for call in sent] == [weights]
    assert not arrived & {call.path for call in sent}
    assert set(hub.files(REPO)) == {*PUBLISHED, "report/bias.png"}


def test_a_commit_whose_answer_was_lost_is_not_made_twice(hub, finished_run):
    hub.lose_answer("POST", "/commit/")
    with pytest.raises(PublishError):
        push_run(finished_run, REPO)
    assert set(hub.files(REPO)) == PUBLISHED
    before = len(hub.requests)
    push_run(finished_run, REPO)
    assert not [call for call in hub.requests[before:] if call.method == "PUT" or "/commit/" in call.path]


def test_what_an_earlier_push_of_another_run_left_is_taken_away(hub, finished_run):
    (finished_run / "vocab.txt").write_text("[PAD]\n")
    (finished_run / "report" / "bias.png").write_bytes(PNG + b"bias")
    push_run(finished_run, REPO)
    HfApi().create_commit(
        REPO,
        [
            CommitOperationAdd(name, b"of somebody else")
            for name in (".gitattributes", "NOTICE", "docs/report/own.png", "other/config.json", "report/notes.txt")
        ],
        commit_message="by hand",
    )
    by_hand = set(hub.files(REPO)) - {*PUBLISHED, "vocab.txt", "report/bias.png"}
    assert len(by_hand) == 5
    (finished_run / "vocab.txt").unlink()
    (finished_run / "report" / "bias.png").unlink()
    (finished_run / "model.safetensors").rename(finished_run / "model-00001-of-00001.safetensors")
    (finished_run / "model.safetensors.index.json").write_text('{"weight_map": {}}')
    push_run(finished_run, REPO)
    weights = {"model-00001-of-00001.safetensors", "model.safetensors.index.json"}
    assert set(hub.files(REPO)) == (PUBLISHED - {"model.safetensors"}) | weights | by_hand


def test_a_checkpoint_takes_away_other_model_files_and_leaves_the_report(hub, finished_run):
    (finished_run / "vocab.txt").write_text("[PAD]\n")
    push_run(finished_run, REPO)
    push_checkpoint(finished_run / "checkpoint-10", REPO, None, None, "step 10").result()
    assert set(hub.files(REPO)) == PUBLISHED


def test_a_push_to_a_branch_leaves_main_alone(hub, finished_run):
    push_run(finished_run, REPO, revision="second-try")
    push_run(finished_run, REPO, revision="second-try")
    assert set(hub.files(REPO, "second-try")) == PUBLISHED
    assert hub.files(REPO) == {}


def test_private_is_private(hub, finished_run, tmp_path):
    push_run(finished_run, REPO, private=True)
    assert hub.repos[REPO].private
    loaded = Path(snapshot_download(REPO, cache_dir=tmp_path / "cache"))
    assert {path.relative_to(loaded).as_posix() for path in loaded.rglob("*") if path.is_file()} == PUBLISHED


def test_access_makes_the_repo_and_names_its_owner(hub):
    assert check_access("toxic-comments", private=True) == REPO
    assert check_access("toxic-comments") == REPO
    assert hub.repos[REPO].private


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize(
    "path",
    ["/home/John Smith/top secret", "../models/jane/secret", "models/jane/secret", "~/jane/secret", r"C:\jane\secret"],
)
def test_configs_tell_no_local_path(hub, finished_run, file, path):
    config = json.loads((finished_run / file).read_text())
    kept = {"chat_template": "{% if a/b/c %}/home/x{{ '\\n\\n' }}", "odd_token": "/a/b/c"}
    kept |= {"added_tokens_decoder": {"7": {"content": "../x/y"}}} if file == "tokenizer_config.json" else {}
    (finished_run / file).write_text(json.dumps(config | kept | {"of": [{"source": path}], "base": "google/bert"}))
    push_run(finished_run, REPO)
    published = json.loads(hub.files(REPO)[file])
    assert published["of"] == [{"source": path.replace("\\", "/").rsplit("/", 1)[-1]}]
    assert published["base"] == "google/bert"
    assert {key: published[key] for key in kept} == kept
    assert b"jane" not in hub.received()
    assert b"Smith" not in hub.received()


@pytest.mark.parametrize("missing", ["model.safetensors", "README.md", "report/benchmark.json"])
def test_a_folder_without_a_finished_run_is_refused(hub, finished_run, missing):
    (finished_run / missing).unlink()
    with pytest.raises(RequestError, match=missing):
        push_run(finished_run, REPO)
    assert not hub.requests


@pytest.mark.parametrize("name", ["datasets/me/x", "no spaces", "../up", "a--b", ""])
def test_names_that_no_repo_can_have_are_refused(hub, finished_run, name):
    with pytest.raises(RequestError, match="NAME or OWNER/NAME"):
        push_run(finished_run, name)
    assert not hub.requests


def test_a_checkpoint_is_published_while_its_folder_goes(hub, finished_run):
    checkpoint = finished_run / "checkpoint-10"
    with hub.lock:  # the Hub does not answer yet
        job = push_checkpoint(checkpoint, REPO, None, None, "Training in progress, step 10")
        for path in checkpoint.iterdir():
            path.unlink()
        checkpoint.rmdir()
    job.result()
    assert set(hub.files(REPO)) == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert b"moments" not in hub.received()
    assert not list(finished_run.glob(".publishing*"))


def test_a_checkpoint_that_the_hub_refuses_is_a_warning(hub, finished_run, caplog):
    hub.fail("POST", "/commit/", 500)
    push_checkpoint(finished_run / "checkpoint-10", REPO, None, None, "step 10").result()
    assert "checkpoint-10 was not published, and training goes on" in caplog.text
    assert not list(finished_run.glob(".publishing*"))


def test_a_command_that_works_from_the_shell(hub, finished_run, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["hub", str(finished_run), "--repo", "toxic-comments", "--private"])
    main()
    assert capsys.readouterr().out == f"Published: {hub.endpoint}/{REPO}\n"
    assert HfApi().model_info(REPO).private
