import importlib.util
import json
import os
import sqlite3
import subprocess
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import pytest
from builders import ROOT, training_flags
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from toxicity.core.arguments import parse_arguments
from toxicity.core.errors import RequestError
from toxicity.core.training_arguments import TrainingArguments, require_trackers


def flags(checkpoint, comments, output_dir):
    options = {"max_seq_length": 16, "num_train_epochs": 1, "logging_steps": 2}
    return training_flags(checkpoint, comments, output_dir=output_dir, **options)


def scalars(output_dir):
    (folder,) = (output_dir / "runs").iterdir()
    events = EventAccumulator(str(folder))
    events.Reload()
    return {name: [event.value for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_none_is_the_default(tmp_path):
    arguments = parse_arguments(["--output_dir", str(tmp_path)]).training
    assert arguments.report_to == []
    # And none publishes what it records without being asked.
    assert arguments.trackio_static_space_id is False


@pytest.mark.parametrize("name", ["tensorboard", "trackio"])
def test_a_missing_package_is_named(monkeypatch, name):
    monkeypatch.setattr("transformers.integrations.get_available_reporting_integrations", lambda: [])
    with pytest.raises(RequestError, match=f"--report_to {name} needs .*: pip install {name}"):
        parse_arguments(["--report_to", name])


def test_an_unknown_one_is_told_from_the_nearest():
    with pytest.raises(RequestError, match="unknown tracker `--report_to tensorbord`; .* `tensorboard`"):
        require_trackers(["tensorbord"])


def test_tensorboard_gets_loss_and_auc(checkpoint, comments_csv, tmp_path, run_main, capsys):
    run_main(*flags(checkpoint, comments_csv, tmp_path / "run"), "--report_to", "tensorboard")
    row = json.loads(capsys.readouterr().out.splitlines()[-1])
    written = scalars(tmp_path / "run")
    assert len(written["train/loss"]) == len(written["train/learning_rate"]) == 5
    assert written["eval/auc"] == [pytest.approx(row["metrics"]["auc"])]


@pytest.fixture
def fake_trackio(monkeypatch):
    """A package `trackio` that notes what is called, in order."""
    calls = []
    trackio = ModuleType("trackio")
    trackio.__spec__ = ModuleSpec("trackio", None)
    trackio.init = lambda **options: calls.append(("init", options))
    trackio.log = lambda metrics: calls.append(("log", metrics))
    trackio.finish = lambda: calls.append(("finish", None))
    trackio.config = type("Config", (dict,), {"update": lambda *args, **kwargs: None})()
    trackio.context_vars = SimpleNamespace(current_space_id=SimpleNamespace(get=lambda: None))
    monkeypatch.setitem(sys.modules, "trackio", trackio)
    return calls


def test_trackio_gets_all_in_one_run_that_ends(fake_trackio, checkpoint, comments_csv, tmp_path, run_main):
    run_main(*flags(checkpoint, comments_csv, tmp_path / "run"), "--report_to", "trackio")
    names = [name for name, _ in fake_trackio]
    assert names == ["init", *["log"] * (len(names) - 2), "finish"]
    assert "train/loss" in fake_trackio[1][1]
    assert 0 <= fake_trackio[-2][1]["eval/auc"] <= 1
    assert fake_trackio[0][1]["space_id"] is None


@pytest.mark.skipif(not importlib.util.find_spec("trackio"), reason="trackio is not installed")
def test_the_real_trackio_does_too_and_the_json_stays_last(checkpoint, comments_csv, tmp_path):
    command = [*flags(checkpoint, comments_csv, tmp_path / "run"), "--use_cpu", "--report_to", "trackio"]
    home = {"HF_DATASETS_CACHE": str(tmp_path / "datasets"), "TRACKIO_DIR": str(tmp_path / "trackio")}
    done = subprocess.run(
        [sys.executable, "run_toxicity.py", *map(str, command)],
        cwd=ROOT,
        env=os.environ | {"HF_HUB_OFFLINE": "1"} | home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    auc = json.loads(done.stdout.splitlines()[-1])["metrics"]["auc"]
    (records,) = (tmp_path / "trackio").glob("*.db")
    with sqlite3.connect(records) as database:
        logged = database.execute("select run_name, metrics from metrics").fetchall()
    assert len({run for run, _ in logged}) == 1
    assert auc in [json.loads(metrics).get("eval/auc") for _, metrics in logged]


def test_what_the_user_names_for_trackio_stays(tmp_path):
    assert TrainingArguments(str(tmp_path), trackio_static_space_id="me/space").trackio_static_space_id == "me/space"
