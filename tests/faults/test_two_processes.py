"""Two processes, gloo on the CPU: forked without a launcher where that is enough, launched in the long ones."""

import json
import os
import subprocess
import sys
import textwrap
import time
from collections import Counter

import numpy as np
import pyarrow.parquet
import pytest
from builders import ROOT, make_comments, training_flags, write_comments
from processes import Run, ended_well, free_port, two_ranks
from sklearn.metrics import roc_auc_score

# Of them 77 to train on: at four rows a pass for two processes, one process gets the last row and the other none.
COMMENTS = 118
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--quiet"]


@pytest.fixture(scope="module")
def comments(tmp_path_factory):
    return write_comments(tmp_path_factory.mktemp("data") / "comments.csv", COMMENTS)


@pytest.fixture(scope="module")
def flags(checkpoint, comments):
    """77 rows to train on and 41 to validate on, ten steps of eight rows at the most an epoch, without dropout."""
    options = {"config_overrides": "hidden_dropout_prob=0", "max_eval_samples": 41, "learning_rate": 1e-3}
    options |= {"logging_steps": 1, "save_strategy": "epoch", "train_sampling_strategy": "group_by_length"}
    return training_flags(checkpoint, comments, num_train_epochs=2, **options)


ONE, TWO = ["--per_device_train_batch_size", 8], ["--per_device_train_batch_size", 4]


def losses(output_dir):
    log = json.loads((output_dir / "checkpoint-20" / "trainer_state.json").read_text())["log_history"]
    return [entry["loss"] for entry in log if "loss" in entry]


def check_scores(output_dir, comments):
    """Every validation row once, in the order of one process, and the AUC of exactly those."""
    predictions = pyarrow.parquet.read_table(output_dir / "report" / "predictions.parquet")
    row = json.loads((output_dir / "report" / "benchmark.json").read_text())
    assert len(set(predictions["id"].to_pylist())) == len(predictions) == 41
    assert roc_auc_score(predictions["label"], predictions["score"]) == pytest.approx(row["metrics"]["auc"])
    return predictions, row


@pytest.fixture(scope="module")
def alone(flags, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    ended_well(Run(folder, *flags, *ONE, "--output_dir", folder / "run"))
    return folder / "run"


TWICE_TWO = ["--per_device_train_batch_size", 2, "--gradient_accumulation_steps", 2]


@pytest.mark.parametrize(("order", "two"), [("group_by_length", TWICE_TWO), ("random", TWO)])
def test_two_do_what_one_does(flags, alone, comments, tokenizer, tmp_path, order, two):
    output_dir = tmp_path / "run"
    if order == "random":
        alone = tmp_path / "alone"
        ended_well(Run(tmp_path, *flags, *ONE, "--output_dir", alone, "--train_sampling_strategy", order))
    options = [*flags, *two, "--output_dir", output_dir, "--train_sampling_strategy", order]
    note = ("note_rows", tmp_path / "rows")
    for run in two_ranks(tmp_path, *options, faults=(note, note)):
        ended_well(run)
    assert len(losses(output_dir)) == 20
    np.testing.assert_allclose(losses(output_dir), losses(alone), atol=1e-4)

    seen = Counter(line for rank in range(2) for line in (tmp_path / f"rows.{rank}").read_text().splitlines())
    predictions, row = check_scores(output_dir, comments)
    of_one, _ = check_scores(alone, comments)
    assert predictions["id"] == of_one["id"]
    np.testing.assert_allclose(predictions["score"], of_one["score"], atol=1e-3)
    assert row["machine"]["device_count"] == 2
    assert row["throughput"]["training_rows_per_second"] * row["timing"]["training_seconds"] == pytest.approx(2 * 77)
    trained = set(range(COMMENTS)) - set(predictions["id"].to_pylist())
    texts = [make_comments(COMMENTS)[number][0] for number in sorted(trained)]
    ids = tokenizer(texts, truncation=True, max_length=32)["input_ids"]
    assert seen == Counter(" ".join(map(str, row)) for row in ids for _ in range(2))


def test_two_are_killed_and_go_on_as_two(flags, tmp_path):
    options = [
        *flags,
        *TWO,
        "--save_strategy",
        "steps",
        "--save_steps",
        4,
        "--config_overrides",
        "hidden_dropout_prob=0.1",
    ]
    for run in two_ranks(tmp_path / "first", *options, "--output_dir", tmp_path / "whole"):
        ended_well(run)
    options += ["--output_dir", tmp_path / "run", "--resume_from_checkpoint", "auto"]
    kill = ("kill_at_step", 14)
    for run in two_ranks(tmp_path / "second", *options, faults=(kill, kill)):
        assert run.ended() == -9
    for run in two_ranks(tmp_path / "third", *options):
        ended_well(run)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "run")]
    assert weights[0] == weights[1]
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


def test_both_stop_at_the_same_step_when_one_of_them_is_asked_to(flags, tmp_path):
    slow = ("slow_steps", 0.1)
    options = [*flags, *TWO, "--output_dir", tmp_path / "run", "--save_strategy", "no"]
    ranks = two_ranks(tmp_path, *options, faults=(slow, slow))
    ranks[0].wait_for("Training: step 3 of 20")
    ranks[1].terminate()
    assert [run.ended(30) for run in ranks] == [75, 75]
    assert "Interrupted by SIGTERM after step" in ranks[0].errors
    for run in two_ranks(tmp_path / "again", *options, "--resume_from_checkpoint", "auto"):
        ended_well(run)
    row = json.loads((tmp_path / "run" / "report" / "benchmark.json").read_text())
    assert row["timing"]["interruptions"][0]["cause"] == "SIGTERM"


def test_the_process_that_had_the_bad_batch_names_it(flags, tmp_path):
    ranks = two_ranks(tmp_path, *flags, *TWO, "--output_dir", tmp_path / "run", faults=((), ("no_number_at_step", 13)))
    assert [run.ended() for run in ranks] == [1, 1]
    assert "the loss is not a finite number in step 14; the ids of that batch: " in ranks[1].errors
    assert len(ranks[1].errors.split("ids of that batch: ")[1].split(".\n")[0].split(", ")) == 4
    assert "not a finite number" not in ranks[0].errors


@pytest.mark.parametrize("decay", [1.0, 0.9])
def test_a_bad_loss_of_one_process_changes_the_weights_of_neither(flags, tmp_path, decay):
    options = [*flags, *TWO, "--max_grad_norm", 0, "--optim", "adamw_torch_fused", "--layerwise_lr_decay", decay]
    options += ["--output_dir", tmp_path / "run", "--save_strategy", "no"]
    note = ("note_weights", tmp_path / "weights")
    ranks = two_ranks(tmp_path, *options, faults=(note, (note, ("no_number_at_step", 4))))
    assert [run.ended() for run in ranks] == [1, 1]
    assert "the loss is not a finite number in step 5; the ids of that batch: " in ranks[1].errors
    before = [(tmp_path / f"weights.{rank}").read_text().splitlines() for rank in range(2)]
    assert before[0] == before[1]
    assert len(before[0]) > 6, "the bad loss is found some steps later"
    assert before[0][3] != before[0][4] == before[0][5] != before[0][6]
    assert all(line.endswith("True") for line in before[0])


def test_the_process_that_ran_out_of_memory_says_what_to_do(flags, tmp_path):
    options = [*flags, *TWO, "--output_dir", tmp_path / "run"]
    ranks = two_ranks(tmp_path, *options, faults=((), ("out_of_memory_at_step", 13)))
    assert [run.ended() for run in ranks] == [1, 1]
    said = [line for line in ranks[1].errors.splitlines() if "error in process 1" in line or "last good" in line]
    assert said == [
        "error in process 1: the device's memory ran out in step 14.",
        f"The last good checkpoint is {tmp_path}/run/checkpoint-10. Start again with --resume_from_checkpoint auto and "
        "a --max_tokens_per_batch.",
    ]


def launched(tmp_path, *command):
    environment = os.environ | {
        "HF_DATASETS_CACHE": str(tmp_path / "cache"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen(
        [str(part) for part in command],
        **{"cwd": ROOT, "env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True},
    )


@pytest.mark.long
@pytest.mark.parametrize("how", ["accelerate launch --multi_gpu", "torchrun"])
def test_launchers_start_two(flags, alone, comments, tmp_path, how):
    options = [*flags, *TWO, "--output_dir", tmp_path / "run", "--use_cpu"]
    two = [*LAUNCH, "--multi_gpu", "--num_processes", 2, "--main_process_port", free_port()]
    if how == "torchrun":
        two = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", 2]
    run = launched(tmp_path, *two, "run_toxicity.py", *options)
    _, errors = run.communicate(timeout=400)
    assert run.returncode == 0, errors
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(alone), atol=1e-4)
    _, row = check_scores(tmp_path / "run", comments)
    assert row["machine"]["device_count"] == 2


@pytest.mark.long
def test_accelerate_that_starts_one_of_two_is_told_to_be_torchrun(flags, tmp_path):
    options = [*flags, *TWO, "--output_dir", tmp_path / "run", "--use_cpu"]
    run = launched(tmp_path, *LAUNCH, "--num_processes", 2, "run_toxicity.py", *options)
    _, errors = run.communicate(timeout=200)
    assert run.returncode == 1, "the launcher's own code"
    assert "error: accelerate launch was asked for several processes and started one" in errors
    assert "`torchrun --standalone --nproc_per_node 2 run_toxicity.py ...`" in errors
    assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_two_launches_are_two_machines(flags, alone, comments, tmp_path):
    options = [*flags, *TWO, "--output_dir", tmp_path / "run", "--use_cpu"]
    config = ["--config_file", "accelerate_configs/multi_node.yaml", "--num_processes", 2, "--mixed_precision", "no"]
    config += ["--main_process_ip", "127.0.0.1", "--main_process_port", free_port()]
    machines = [
        launched(tmp_path, *LAUNCH, *config, "--machine_rank", rank, "run_toxicity.py", *options) for rank in range(2)
    ]
    for machine in machines:
        _, errors = machine.communicate(timeout=400)
        assert machine.returncode == 0, errors
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(alone), atol=1e-4)
    check_scores(tmp_path / "run", comments)


@pytest.mark.long
@pytest.mark.parametrize("rank", [0, 1])
def test_one_that_dies_stops_the_other_and_shows_its_own_error(flags, tmp_path, rank):
    script = tmp_path / "faulty.py"
    script.write_text(
        textwrap.dedent(
            f"""\
            import os, sys, runpy
            sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests" / "support")!r}]
            import faults
            if os.environ["RANK"] == "{rank}":
                faults.raise_at_step(5, "the card fell off the bus")
            runpy.run_path({str(ROOT / "run_toxicity.py")!r}, run_name="__main__")
            """
        )
    )
    options = [*flags, *TWO, "--output_dir", tmp_path / "run", "--use_cpu"]
    two = [*LAUNCH, "--multi_gpu", "--num_processes", 2, "--main_process_port", free_port()]
    run = launched(tmp_path, *two, script, *options)
    died = None
    said = []
    for line in run.stderr:
        said.append(line)
        if "the card fell off the bus" in line and died is None:
            died = time.monotonic()
    run.wait(100)
    assert died is not None, "".join(said)
    assert time.monotonic() - died < 60
    assert run.returncode == 1
    assert "ValueError: the card fell off the bus" in "".join(said)


@pytest.mark.long
@pytest.mark.parametrize(("ranks", "speaker"), [("01", "error: "), ("1", "error in process 1: ")])
def test_data_that_are_missing_are_told_once_by_one_that_misses_them(flags, tmp_path, ranks, speaker):
    script = tmp_path / "elsewhere.py"
    script.write_text(
        textwrap.dedent(
            f"""\
            import os, sys, runpy
            sys.path.insert(0, {str(ROOT)!r})
            if os.environ["RANK"] in {ranks!r}:
                sys.argv[sys.argv.index("--train_file") + 1] = "nowhere.csv"
            runpy.run_path({str(ROOT / "run_toxicity.py")!r}, run_name="__main__")
            """
        )
    )
    options = [*flags, *TWO, "--output_dir", tmp_path / "run", "--use_cpu"]
    two = [*LAUNCH, "--multi_gpu", "--num_processes", 2, "--main_process_port", free_port()]
    run = launched(tmp_path, *two, script, *options)
    _, errors = run.communicate(timeout=200)
    assert run.returncode == 1
    told = [line for line in errors.splitlines() if line.startswith("error") and "nowhere.csv" in line]
    assert len(told) == 1, errors
    assert told[0].startswith(speaker)
