import json
import os
import signal
import subprocess
import sys
import time

import pytest
from builders import ROOT, training_flags, write_comments
from processes import Run, ended_well

from toxicity.core.errors import Interrupted
from toxicity.training.checkpoints import fault_of
from toxicity.training.interruption import defer_stop, is_launcher, sigterm_saves, stop_requested


@pytest.fixture(scope="module")
def flags(checkpoint, tmp_path_factory):
    path = write_comments(tmp_path_factory.mktemp("data") / "comments.csv")
    options = {"config_overrides": "hidden_dropout_prob=0.1", "learning_rate": 1e-3, "logging_steps": 2}
    options |= {"save_strategy": "no", "per_device_eval_batch_size": 4}
    return training_flags(checkpoint, path, num_train_epochs=2, **options)


@pytest.fixture(scope="module")
def whole_weights(flags, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    ended_well(Run(folder, *flags, "--output_dir", folder / "run"))
    return (folder / "run" / "model.safetensors").read_bytes()


def stop_and_go_on(run, options, folder):
    """Send SIGTERM, check how the run ends, take it up again; returns the second part."""
    started = time.monotonic()
    run.terminate()
    assert run.ended(30) == 75
    assert time.monotonic() - started < 30
    assert "Traceback" not in run.errors
    assert "--resume_from_checkpoint auto" in run.errors.splitlines()[-1]
    made = list((folder / "run").glob("checkpoint-*"))
    assert made
    assert all(fault_of(checkpoint) is None for checkpoint in made)
    done = ended_well(Run(folder, *options, "--resume_from_checkpoint", "auto"))
    assert [part["cause"] for part in done.row["timing"]["interruptions"]] == ["SIGTERM"]
    assert done.row["timing"]["interruptions"][0]["repeated_steps"] == 0
    return done


def test_sigterm_saves_and_the_next_start_goes_on_from_that_very_step(flags, whole_weights, tmp_path):
    options = [*flags, "--output_dir", tmp_path / "run"]
    run = Run(tmp_path, *options, fault=("slow_steps", 0.1))
    run.wait_for("Training: step 6 of 20")
    stop_and_go_on(run, options, tmp_path)
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == whole_weights


def test_sigterm_while_scoring_loses_no_training(flags, whole_weights, tmp_path):
    options = [*flags, "--output_dir", tmp_path / "run"]
    run = Run(tmp_path, *options, fault=("slow_scoring", 0.5))
    run.wait_for("Training: step 20 of 20")
    time.sleep(0.7)
    done = stop_and_go_on(run, options, tmp_path)
    assert done.row["timing"]["interruptions"][0]["step"] == 20
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == whole_weights


@pytest.mark.long
@pytest.mark.parametrize("strategy", [("steps", "--eval_steps", 4), ("epoch",)], ids=["steps", "epochs"])
def test_an_evaluation_that_was_cut_off_is_made_up_for(flags, tmp_path, strategy):
    options = [*flags, "--eval_strategy", *strategy, "--per_device_eval_batch_size", 8]
    ended_well(Run(tmp_path, *options, "--output_dir", tmp_path / "whole", "--save_strategy", "epoch"))
    options += ["--output_dir", tmp_path / "run"]
    run = Run(tmp_path, *options, fault=("slow_scoring", 0.4))
    run.wait_for("Training: step 4 of 20" if strategy[0] == "steps" else "Training: step 10 of 20")
    time.sleep(0.6)
    stop_and_go_on(run, [*options, "--save_strategy", "epoch"], tmp_path)
    logs = []
    for name in ("whole", "run"):
        log = json.loads((tmp_path / name / "checkpoint-20" / "trainer_state.json").read_text())["log_history"]
        logs.append([{k: v for k, v in entry.items() if not k.endswith(("runtime", "per_second"))} for entry in log])
    assert logs[0] == logs[1]
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "run")]
    assert weights[0] == weights[1]


def test_before_the_training_sigterm_ends_the_run_at_once():
    def main():
        with sigterm_saves():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)

    with pytest.raises(Interrupted) as stop:
        main()
    assert stop.value.code == 75


def test_later_it_is_noted():
    before = signal.getsignal(signal.SIGTERM)
    with sigterm_saves():
        defer_stop()
        assert not stop_requested()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop_requested()
    assert not stop_requested()
    assert signal.getsignal(signal.SIGTERM) == before


def test_what_mentions_a_launcher_is_none():
    assert is_launcher(["python3", "-u", "-m", "accelerate.commands.launch", "run_toxicity.py"])
    assert is_launcher(["/venv/bin/python", "/venv/bin/torchrun", "run_toxicity.py"])
    assert is_launcher(["python", "-m", "toxicity.launch", "run_toxicity.py"])
    assert not is_launcher(["bash", "-c", "cd accelerate && python run_toxicity.py"])
    assert not is_launcher(["python", "sweep.py", "accelerate"])
    assert not is_launcher([])


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
def test_sigterm_to_the_launcher_reaches_the_run(flags, whole_weights, tmp_path):
    options = [str(flag) for flag in (*flags, "--output_dir", tmp_path / "run", "--num_train_epochs", "40")]
    environment = os.environ | {"HF_DATASETS_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    log = tmp_path / "log"
    with log.open("w") as file:
        launcher = subprocess.Popen(
            [sys.executable, "-m", "accelerate.commands.launch", "--quiet", "--cpu", "run_toxicity.py", *options],
            **{"cwd": ROOT, "env": environment, "stderr": file, "stdout": file},
        )
        until = time.monotonic() + 200
        while "Training: step 6 " not in log.read_text() and time.monotonic() < until:
            time.sleep(0.1)
        launcher.terminate()
        launcher.wait()
        until = time.monotonic() + 30
        while "Interrupted by SIGTERM after step" not in log.read_text() and time.monotonic() < until:
            time.sleep(0.1)
    assert "Interrupted by SIGTERM after step" in log.read_text()
    assert [fault_of(folder) for folder in (tmp_path / "run").glob("checkpoint-*")] == [None]


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ([], "No checkpoint is saved yet: start the same command again."),
        (
            ["--save_strategy", "steps", "--save_steps", 4],
            "{folder}/checkpoint-4 is kept. Start the same command again",
        ),
    ],
    ids=["nothing saved", "a checkpoint"],
)
def test_ctrl_c_says_what_is_kept(flags, tmp_path, options, kept):
    run = Run(tmp_path, *flags, *options, "--output_dir", tmp_path / "run", fault=("slow_steps", 0.2))
    run.wait_for("Training: step 6 of 20")
    os.kill(run.process.pid, signal.SIGINT)
    assert run.ended(30) == 130
    assert "Traceback" not in run.errors
    last = run.errors.splitlines()[-1]
    assert last.startswith("Interrupted by Ctrl-C after step ")
    assert kept.format(folder=tmp_path / "run") in last
    assert bool(options) == ("--resume_from_checkpoint auto" in last)


def test_ctrl_c_while_scoring_after_the_training_says_that_the_model_is_saved(flags, tmp_path):
    run = Run(tmp_path, *flags, "--output_dir", tmp_path / "run", fault=("slow_scoring", 4.0))
    until = time.monotonic() + 120
    while not (tmp_path / "run" / "tokenizer.json").exists() and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(2)
    os.kill(run.process.pid, signal.SIGINT)
    assert run.ended(30) == 130
    assert f"Interrupted by Ctrl-C after the training: the model is saved in {tmp_path / 'run'}" in run.errors


@pytest.mark.parametrize("module", ["yaml", "numpy", "transformers"])
def test_ctrl_c_while_modules_are_imported_has_no_traceback(module):
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", "run_toxicity.py"],
        **{"cwd": ROOT, "env": os.environ | {"HF_HUB_OFFLINE": "1"}, "stderr": subprocess.PIPE, "text": True},
    )
    try:
        while (line := process.stderr.readline()) and line.split("|")[-1].strip() != module:
            pass
        process.send_signal(signal.SIGINT)
        errors = [line for line in process.stderr if not line.startswith("import time:")]
        assert process.wait(60) == 130, errors
    finally:
        process.kill()
    assert errors == ["Interrupted by Ctrl-C before the training began: start the same command again.\n"]
