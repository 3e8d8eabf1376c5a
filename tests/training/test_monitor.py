import csv

import pytest
import torch
from builders import make_comments, training_flags, write_csv
from processes import Run, ended_well

from toxicity.training.checkpoints import fault_of
from toxicity.training.monitor import all_finite


@pytest.fixture(scope="module")
def flags(checkpoint, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "comments.csv"
    write_csv(path, ["id", "comment_text", "target"], [[f"c{i}", *row] for i, row in enumerate(make_comments(120))])
    return training_flags(checkpoint, path, num_train_epochs=2, save_strategy="steps", save_steps=3)


def named_ids(errors):
    return errors.split("the ids of that batch: ")[1].split(".\n")[0].split(", ")


@pytest.mark.parametrize("order", ["group_by_length", "random"])
def test_a_loss_that_is_no_number_stops_the_run_with_step_and_ids(flags, tokenizer, tmp_path, order):
    faults = (("no_number_at_step", 13), ("note_rows", tmp_path / "rows"))
    options = [*flags, "--train_sampling_strategy", order, "--output_dir", tmp_path / "run"]
    run = Run(tmp_path, *options, fault=faults)
    assert run.ended() == 1
    assert "error: the loss is not a finite number in step 14; the ids of that batch: c" in run.errors
    assert "Traceback" not in run.errors
    assert f"The last good checkpoint is {tmp_path / 'run' / 'checkpoint-12'}." in run.errors
    assert fault_of(tmp_path / "run" / "checkpoint-12") is None
    assert not (tmp_path / "run" / "checkpoint-15").exists()
    assert not (tmp_path / "run" / "model.safetensors").exists()
    # The ids are those of the rows that went in.
    with flags[3].open() as file:
        text_of = {row["id"]: row["comment_text"] for row in csv.DictReader(file)}
    named = [tokenizer(text_of[name], truncation=True, max_length=32)["input_ids"] for name in named_ids(run.errors)]
    trained = [list(map(int, line.split())) for line in (tmp_path / "rows.0").read_text().splitlines()]
    assert sorted(named) == sorted(trained[13 * 8 : 14 * 8])


@pytest.mark.parametrize(("steps", "code"), [(2, 0), (3, 1)])
def test_in_fp16_the_scaler_has_its_chance(flags, tmp_path, steps, code):
    options = [*flags, "--output_dir", tmp_path / "run"]
    run = Run(tmp_path, *options, fault=("no_number_at_step", 13, steps), ACCELERATE_MIXED_PRECISION="fp16")
    assert run.ended() == code, run.errors
    if code:
        assert "in step 14 and in the 2 after it; the ids of that batch: c" in run.errors
        assert "or leave fp16: --mixed_precision no, or bf16 on a card that has it" in run.errors
    assert all(fault_of(folder) is None for folder in (tmp_path / "run").glob("checkpoint-*"))


def test_a_learning_rate_that_is_far_too_high_is_such_a_case(flags, tmp_path):
    run = Run(tmp_path, *flags, "--output_dir", tmp_path / "run", "--learning_rate", 1e38, "--save_steps", 1)
    assert run.ended() == 1
    assert "error: the " in run.errors
    assert "lower --learning_rate" in run.errors.lower()
    assert all(fault_of(folder) is None for folder in (tmp_path / "run").glob("checkpoint-*"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_no_numbers_are_seen(value):
    model = torch.nn.Linear(3, 2)
    assert all_finite(model)
    with torch.no_grad():
        model.weight[1, 2] = value
    assert not all_finite(model)


def test_a_quota_that_is_used_up_leaves_the_last_checkpoint_whole(flags, tmp_path):
    options = [*flags, "--output_dir", tmp_path / "run", "--save_total_limit", 1]
    run = Run(tmp_path, *options, fault=("quota", 2, 0.1))
    assert run.ended() == 1
    assert "Traceback" not in run.errors
    assert f"cannot write checkpoint-9 in {tmp_path / 'run'}: it needs " in run.errors
    assert "MiB were free" in run.errors
    assert f"The last good checkpoint is {tmp_path / 'run' / 'checkpoint-6'}." in run.errors
    assert fault_of(tmp_path / "run" / "checkpoint-6") is None
    assert not (tmp_path / "run" / ".checkpoint-9.unfinished").exists()
    done = ended_well(Run(tmp_path, *options, "--resume_from_checkpoint", "auto"))
    assert done.row["timing"]["interruptions"][0]["step"] == 6


@pytest.mark.long
@pytest.mark.parametrize(("kibibytes", "by_surprise"), [(6000, False), (1300, True)], ids=["foreseen", "by surprise"])
def test_a_disk_that_fills_up_leaves_the_last_checkpoint_whole(flags, tmp_path, kibibytes, by_surprise):
    faults = [("small_disk", tmp_path / "disk", kibibytes)]
    run = Run(tmp_path, *flags, "--output_dir", tmp_path / "disk", fault=faults + [("no_estimate",)] * by_surprise)
    assert run.ended() == 1, run.errors
    assert "error: cannot write checkpoint-" in run.errors
    assert "Traceback" not in run.errors
    assert "MiB were free (" in run.errors
    whole = list((tmp_path / "disk-copy").glob("checkpoint-*"))
    assert whole
    assert all(fault_of(folder) is None for folder in whole)
    assert any(f"The last good checkpoint is {tmp_path / 'disk' / folder.name}." in run.errors for folder in whole)
    assert not list((tmp_path / "disk-copy").glob(".checkpoint*"))
