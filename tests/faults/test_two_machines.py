"""Two machines that share a folder or not: two processes, each the first one of its machine."""

import json

import pytest
from builders import training_flags, write_comments
from machines import two_machines
from processes import ended_well


@pytest.fixture(scope="module")
def flags(checkpoint, tmp_path_factory):
    """Eight steps of eight rows."""
    comments = write_comments(tmp_path_factory.mktemp("data") / "comments.csv", 96)
    options = {"config_overrides": "hidden_dropout_prob=0.1", "logging_steps": 2, "per_device_train_batch_size": 4}
    return training_flags(checkpoint, comments, num_train_epochs=1, **options)


@pytest.fixture(scope="module")
def whole(flags, tmp_path_factory):
    """The folder that two machines shared in a run without interruptions; each had a token cache of its own."""
    folder = tmp_path_factory.mktemp("whole")
    for run in two_machines(folder, *flags, "--output_dir", folder / "run", "--save_strategy", "no"):
        ended_well(run)
    return folder


def test_each_machine_tokenises_for_itself(whole):
    for rank in range(2):
        assert len(list((whole / f"disk{rank}" / "cache" / "toxicity").glob("tokens-*/"))) == 2
    assert not list((whole / "run").glob(".probe-*"))


def test_a_signal_to_one_machine_stops_both_and_the_same_command_goes_on(flags, whole, tmp_path):
    options = [*flags, "--output_dir", tmp_path / "run", "--save_strategy", "no", "--resume_from_checkpoint", "auto"]
    slow = (("slow_steps", 0.3),)
    runs = two_machines(tmp_path, *options, faults=(slow, slow))
    runs[0].wait_for("Training: step 2 of 8")
    runs[1].terminate()
    assert [run.ended(60) for run in runs] == [75, 75]
    (saved,) = (tmp_path / "run").glob("checkpoint-*")
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= {path.name for path in saved.iterdir()}
    runs = two_machines(tmp_path, *options)
    for run in runs:
        ended_well(run)
    assert [part["cause"] for part in runs[0].row["timing"]["interruptions"]] == ["SIGTERM"]
    weights = [(folder / "run" / "model.safetensors").read_bytes() for folder in (whole, tmp_path)]
    assert weights[0] == weights[1]


def test_a_machine_that_vanishes_ends_the_other_and_both_go_on_from_the_last_checkpoint(flags, whole, tmp_path):
    options = [*flags, "--output_dir", tmp_path / "run", "--save_strategy", "steps", "--save_steps", 3]
    options += ["--resume_from_checkpoint", "auto"]
    on_the_second = (("remember_missing", tmp_path / "run"), ("kill_at_step", 5))
    runs = two_machines(tmp_path, *options, faults=((), on_the_second))
    assert [run.ended(60) for run in runs] == [1, -9]
    assert "error: another process of this run is gone: " in runs[0].errors
    assert f"The last good checkpoint is {tmp_path}/run/checkpoint-3. Start again with" in runs[0].errors
    assert "Traceback" not in runs[0].errors
    runs = two_machines(tmp_path, *options)
    for run in runs:
        ended_well(run)
    assert [part["step"] for part in runs[0].row["timing"]["interruptions"]] == [3]
    weights = [(folder / "run" / "model.safetensors").read_bytes() for folder in (whole, tmp_path)]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--output_dir", "run"], "does not see what the first one writes into --output_dir run, and would find no"),
        (["--output_dir", "run", "--save_on_each_node", "true"], "put --output_dir in a folder that the machines"),
    ],
    ids=["not shared", "of each machine"],
)
def test_checkpoints_that_not_all_would_find_are_refused_before_anything_is_read(flags, tmp_path, options, said):
    runs = two_machines(tmp_path, *flags, *options)
    assert [run.ended() for run in runs] == [2, 2], [run.errors for run in runs]
    assert said in runs[0].errors
    assert not list(tmp_path.glob("disk*/*"))


def test_without_checkpoints_nothing_is_shared(flags, whole, tmp_path):
    never = ["--save_strategy", "no", "--save_minutes", 0]
    for run in two_machines(tmp_path, *flags, "--output_dir", "run", *never):
        ended_well(run)
    disks = [tmp_path / f"disk{rank}" / "run" for rank in range(2)]
    assert not disks[1].exists()
    assert (disks[0] / "model.safetensors").read_bytes() == (whole / "run" / "model.safetensors").read_bytes()
    assert json.loads((disks[0] / "report" / "benchmark.json").read_text())["machine"]["device_count"] == 2
