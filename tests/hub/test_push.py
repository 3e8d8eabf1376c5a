import copy
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from builders import make_comments
from hub_server import OWNER, READ_TOKEN, WRITE_TOKEN
from huggingface_hub import CommitOperationAdd, HfApi, snapshot_download
from huggingface_hub.utils import get_session
from transformers import BertForSequenceClassification

from toxicity.core.errors import PublishError, RequestError
from toxicity.hub.__main__ import main
from toxicity.hub.model_card import write_card
from toxicity.hub.push import check_access, push_checkpoint, push_run

REPO = f"{OWNER}/toxic-comments"
LOCAL_FOLDER = "/home/jane.doe/projects/secret plans/base"
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"

BENCHMARK = {
    "schema_version": 1,
    "machine": {"label": "cpu", "device_name": "AMD EPYC", "device_count": 1, "cpu_count": 2},
    "versions": {"python": "3.11.7"},
    "protocol": {
        "recipe": "sample",
        "dataset": "comments.csv",
        "model": LOCAL_FOLDER,
        "config_overrides": None,
        "train_rows": 80,
        "validation_rows": 40,
        "validation_positives": 10,
        "max_seq_length": 32,
        "epochs": 1.0,
        "seed": 1234,
        "mixed_precision": "no",
        "optimiser": {"optim": "adamw_torch", "batch_size": 8, "learning_rate": 1e-4},
    },
    "timing": {
        "tokenizer_seconds": 1.0,
        "tokenizer_cache_hit": False,
        "training_seconds": 2.0,
        "inference_seconds": 3.0,
    },
    "throughput": {},
    "metrics": {"auc": 0.9, "bias": None},
}


@pytest.fixture(scope="session")
def one_run(tmp_path_factory, tiny_config, tokenizer):
    """What a run leaves, and things beside it that are nobody else's business."""
    run = tmp_path_factory.mktemp("one") / "run"
    (run / "report").mkdir(parents=True)
    torch.manual_seed(0)
    model = BertForSequenceClassification(copy.deepcopy(tiny_config)).eval()
    model.config.id2label, model.config.label2id = {0: "toxic"}, {"toxic": 0}
    model.config.vocab_source = f"{LOCAL_FOLDER.replace(' ', '_')}/vocab.txt"
    model.save_pretrained(run)
    tokenizer.save_pretrained(run)
    texts = [text for text, _ in make_comments(40, seed=5)]
    with torch.no_grad():
        inputs = tokenizer(texts, truncation=True, max_length=32, padding=True, return_tensors="pt")
        logits = model(**inputs).logits.squeeze(1).double().numpy()
    scores = 1 / (1 + np.exp(-logits))
    pyarrow.parquet.write_table(pa.table({"id": range(40), "score": scores}), run / "report" / "predictions.parquet")
    (run / "report" / "benchmark.json").write_text(json.dumps(BENCHMARK))
    (run / "report" / "report.md").write_text("\n".join(texts))
    (run / "report" / "report.html").write_text("\n".join(texts))
    (run / "report" / "roc.png").write_bytes(PNG + b"roc")
    (run / "report" / "timing.png").write_bytes(PNG + b"timing")
    (run / "training_args.bin").write_bytes(b"\0" + WRITE_TOKEN.encode() + LOCAL_FOLDER.encode())
    (run / "optimizer.pt").write_bytes(b"\0moments")
    checkpoint = run / "checkpoint-10"
    checkpoint.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (checkpoint / name).write_bytes((run / name).read_bytes())
    (checkpoint / "optimizer.pt").write_bytes(b"\0moments")
    (checkpoint / "trainer_state.json").write_text(json.dumps({"best_model_checkpoint": LOCAL_FOLDER}))
    write_card(run, BENCHMARK)
    return run


@pytest.fixture
def finished_run(one_run, tmp_path):
    return shutil.copytree(one_run, tmp_path / "runs" / "mine")


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


PUBLISHED = {
    *("README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
    *("report/benchmark.json", "report/roc.png", "report/timing.png"),
}


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


def no_token(hub, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")


def unknown_token(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 30)


def read_token(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", READ_TOKEN)


def read_token_and_a_repo(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", READ_TOKEN)
    hub.make_repo(REPO)


def dataset_of_that_name(hub, monkeypatch):
    hub.make_repo(REPO, kind="dataset")


def hub_is_down(hub, monkeypatch):
    hub.stop()


def offline(hub, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def hub_is_ill(hub, monkeypatch):
    hub.fail("POST", "/preupload/", 500)


def commits_conflict(hub, monkeypatch):
    hub.fail("POST", "/commit/", 409)


def hub_is_silent(hub, monkeypatch):
    monkeypatch.setattr("toxicity.hub.push.SECONDS_OF_SILENCE", 0.2)
    hub.hang("POST", "/preupload/")


def validation_breaks_off(hub, monkeypatch):
    hub.drop("POST", "/validate-yaml")


FAILURES = {
    no_token: "there is no token for the Hub: run `hf auth login`, or set HF_TOKEN",
    unknown_token: "does not take the token",
    read_token: "the token may not write to",
    read_token_and_a_repo: "the token may not write to",
    dataset_of_that_name: "is a dataset, not a model: choose another name",
    hub_is_down: "ConnectError",
    offline: "unset the `HF_HUB_OFFLINE`",
    hub_is_ill: "500",
    commits_conflict: "409",
    hub_is_silent: "ReadTimeout",
    validation_breaks_off: "was not published, or not all of it",
}


@pytest.mark.parametrize("happens", FAILURES, ids=lambda happens: happens.__name__)
def test_what_keeps_a_run_from_the_hub_is_said_in_two_lines_with_exit_code_1(
    hub, finished_run, monkeypatch, capsys, happens
):
    from toxicity.core.errors import refusals_exit_cleanly

    happens(hub, monkeypatch)
    before = contents(finished_run)
    monkeypatch.setattr("sys.argv", ["hub", str(finished_run), "--repo", REPO])
    with pytest.raises(SystemExit) as stop, refusals_exit_cleanly():
        main()
    assert stop.value.code == 1
    printed = capsys.readouterr()
    reason, command = printed.err[printed.err.index("error: ") :].splitlines()
    assert FAILURES[happens] in reason
    assert (
        command
        == f"The run is whole in {finished_run}. To publish it: python -m toxicity.hub {finished_run} --repo {REPO}"
    )
    assert "hf_" not in printed.err
    assert printed.out == ""
    assert contents(finished_run) == before
    assert REPO not in hub.repos or hub.repos[REPO].kind == "dataset" or hub.files(REPO) == {}


def test_what_a_server_says_does_nothing_to_the_terminal(hub, finished_run):
    hub.fail("POST", "/preupload/", 400, message="\x1b]0;owned\x07 no\x1b[2Jway\r\x9b31m")
    with pytest.raises(PublishError, match=r"\\x1b\]0;owned") as stop:
        push_run(finished_run, REPO)
    assert all(line.isprintable() for line in str(stop.value).splitlines())
    assert len(str(stop.value).splitlines()) == 2


def test_a_name_that_no_repo_can_have_is_not_taken_from_the_hub(hub, monkeypatch):
    answer = SimpleNamespace(repo_id="me/x\x1b[2J", repo_type="model")
    monkeypatch.setattr(HfApi, "create_repo", lambda *_, **__: answer)
    with pytest.raises(PublishError) as stop:
        check_access(REPO)
    assert str(stop.value).isprintable()


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_of_the_storage_says_nothing_of_the_token(hub, finished_run, status):
    hub.fail("PUT", "/storage/", status, message="the signature has expired")
    with pytest.raises(PublishError, match="the signature has expired") as stop:
        push_run(finished_run, REPO)
    assert f"{REPO} was not published, or not all of it. " in str(stop.value)


def test_a_refusal_of_a_host_that_the_hub_points_to_says_nothing_of_the_token(hub, finished_run):
    hub.send_elsewhere("POST", "/commit/")
    with pytest.raises(PublishError, match="was not published, or not all of it. .*404"):
        push_run(finished_run, REPO)


def test_a_refusal_of_the_hub_says_why(hub, finished_run):
    hub.fail("POST", "/commit/", 403, message="Private storage limit reached")
    with pytest.raises(PublishError, match="may not write to .* Private storage limit reached"):
        push_run(finished_run, REPO)


@pytest.mark.parametrize("happens", [no_token, unknown_token, read_token, read_token_and_a_repo, hub_is_down])
def test_access_is_checked_before_there_is_anything_to_push(hub, monkeypatch, happens):
    happens(hub, monkeypatch)
    with pytest.raises(PublishError):
        check_access(REPO)


def test_a_hub_that_does_not_answer_is_not_waited_for_without_end(hub, monkeypatch):
    monkeypatch.setattr("toxicity.hub.push.SECONDS_OF_SILENCE", 0.2)
    hub.hang("POST", "/repos/create")
    with pytest.raises(PublishError, match="ReadTimeout"):
        check_access(REPO)
    assert get_session().timeout.read is None, "others keep their patience"


def test_access_makes_the_repo_and_names_its_owner(hub):
    assert check_access("toxic-comments", private=True) == REPO
    assert check_access("toxic-comments") == REPO
    assert hub.repos[REPO].private


def test_faults_that_pass_are_sat_out(hub, finished_run):
    hub.fail("POST", "/preupload/", 500, times=2)
    hub.drop("PUT", "/storage/", after_bytes=100, times=2)
    push_run(finished_run, REPO)
    assert set(hub.files(REPO)) == PUBLISHED


def test_a_token_in_a_file_stops_the_push(hub, finished_run):
    card = finished_run / "README.md"
    card.write_text(card.read_text() + "\nhf_" + "a1B2" * 8 + "\n")
    with pytest.raises(PublishError, match="README.md holds a token"):
        push_run(finished_run, REPO)
    assert b"a1B2" not in hub.received()


def test_a_card_with_bad_metadata_is_refused_before_anything_is_sent(hub, finished_run):
    card = finished_run / "README.md"
    card.write_text(re.sub(r"license: .*", "license: do as you please", card.read_text()))
    with pytest.raises(PublishError, match=r"Invalid metadata in README.md.*license"):
        push_run(finished_run, REPO)
    assert not hub.calls("PUT", "")


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


def test_a_checkpoint_that_the_hub_refuses_is_a_warning(hub, finished_run, caplog, monkeypatch):
    hub.fail("POST", "/commit/", 500)
    monkeypatch.setattr(logging.getLogger("toxicity"), "propagate", True)
    push_checkpoint(finished_run / "checkpoint-10", REPO, None, None, "step 10").result()
    assert "checkpoint-10 was not published, and training goes on" in caplog.text
    assert not list(finished_run.glob(".publishing*"))


def test_a_command_that_works_from_the_shell(hub, finished_run, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["hub", str(finished_run), "--repo", "toxic-comments", "--private"])
    main()
    assert capsys.readouterr().out == f"Published: {hub.endpoint}/{REPO}\n"
    assert HfApi().model_info(REPO).private
