"""Runs with copies beside the comments: in two processes, and killed and resumed, they are what one run is."""

import json

import numpy as np
import pytest
from builders import make_comments, training_flags, write_csv
from processes import Run, ended_well, two_ranks

TERMS = ["a gay man said", "Muslims said", "some women said", "the weather said"]
PAIRED, ROWS_OF_THEIR_OWN = ["--counterfactual_pairing", 0.5], []


@pytest.fixture
def flags(checkpoint, tmp_path):
    """50 rows to train on, some of which are drawn for the group that they name, and some mistyped, in two epochs."""
    rows = [[n, f"{TERMS[n % 4]} {text}", label] for n, (text, label) in enumerate(make_comments(110))]
    comments = write_csv(tmp_path / "comments.csv", ["id", "text", "target"], rows)
    options = {"max_train_samples": 50, "max_eval_samples": 41, "counterfactuals": 1.5, "identity_rows": 0.4}
    options |= {"augment_typos": 0.5, "num_train_epochs": 2, "later_negatives": 0.5, "learning_rate": 1e-3}
    saving = {"logging_steps": 1, "save_strategy": "steps", "save_steps": 4}
    order = {"train_sampling_strategy": "group_by_length"}
    return training_flags(checkpoint, comments, **options, **saving, **order)


def losses(folder):
    *_, last = sorted(folder.glob("checkpoint-*"), key=lambda checkpoint: int(checkpoint.name.split("-")[1]))
    log = json.loads((last / "trainer_state.json").read_text())["log_history"]
    return [entry["loss"] for entry in log if "loss" in entry]


def trained(row):
    return [
        row["throughput"][f"training_{of}_per_second"] * row["timing"]["training_seconds"] for of in ("rows", "tokens")
    ]


@pytest.mark.parametrize("paired", [PAIRED, ROWS_OF_THEIR_OWN])
def test_two_processes_do_what_one_does(flags, tmp_path, paired):
    flags = [*flags, *paired, "--config_overrides", "hidden_dropout_prob=0"]
    one = ended_well(Run(tmp_path, *flags, "--per_device_train_batch_size", 8, "--output_dir", tmp_path / "one"))
    for run in two_ranks(tmp_path, *flags, "--per_device_train_batch_size", 4, "--output_dir", tmp_path / "two"):
        ended_well(run)
    two = json.loads((tmp_path / "two" / "report" / "benchmark.json").read_text())
    assert one.row["counterfactuals"] == two["counterfactuals"]
    assert trained(one.row) == pytest.approx(trained(two))
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(tmp_path / "one"), atol=1e-4)


def test_killed_and_resumed_it_ends_with_the_same_weights(flags, tmp_path):
    flags = [*flags, *PAIRED, "--config_overrides", "hidden_dropout_prob=0.1"]
    whole = ended_well(Run(tmp_path, *flags, "--output_dir", tmp_path / "whole"))
    flags += ["--output_dir", tmp_path / "run", "--resume_from_checkpoint", "auto"]
    assert Run(tmp_path, *flags, fault=("kill_at_step", 6)).ended() == -9
    again = ended_well(Run(tmp_path, *flags))
    assert [part["step"] for part in again.row["timing"]["interruptions"]] == [4]
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "run")]
    assert weights[0] == weights[1]
    assert trained(again.row) == pytest.approx(trained(whole.row))
    assert again.row["metrics"] == whole.row["metrics"]
