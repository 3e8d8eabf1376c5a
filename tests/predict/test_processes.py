"""Jobs of several processes: forked ones that are killed, and ones that `accelerate launch` starts."""

import os
import re
import signal
import subprocess
import time

import pytest
from builders import COMMENTS, ROOT, files_in, make_comments, write_csv, write_texts
from label_models import save_label_model
from processes import LAUNCH, PredictRun, ended_well, two_ranks


@pytest.fixture
def inputs(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def job_of_twenty_files(model_dir, inputs, tmp_path):
    """The flags of a job, all but the folder of its output, and the output that it has when nothing disturbs it."""
    for number in range(20):
        write_texts(inputs / f"part-{number:02d}.csv", [text for text, _ in make_comments(300, seed=number)])
    flags = ["--model", model_dir, "--runtime", "torch", "--input", inputs, "--output"]
    ended_well(PredictRun(tmp_path / "alone", *flags, tmp_path / "undisturbed"))
    return flags, tmp_path / "undisturbed"


def test_killed_in_the_middle_and_repeated_it_leaves_the_same_bytes(job_of_twenty_files, tmp_path):
    flags, undisturbed = job_of_twenty_files
    disturbed = tmp_path / "disturbed"
    ranks = two_ranks(tmp_path / "killed", *flags, disturbed, kind=PredictRun)
    while any(rank.process.is_alive() for rank in ranks) and len(list(disturbed.glob("*.parquet"))) < 3:
        time.sleep(0.002)
    for rank in ranks:
        rank.process.kill()
        rank.ended()
    assert 3 <= len(list(disturbed.glob("*.parquet"))) < 20, "killed in the middle"
    assert not (disturbed / "manifest.json").exists()

    first, _ = map(ended_well, two_ranks(tmp_path / "again", *flags, disturbed, kind=PredictRun))
    assert "Done before, and skipped" in first.errors
    assert files_in(disturbed) == files_in(undisturbed)


def test_two_processes_that_are_killed_leave_the_same_bytes_in_an_object_store(
    job_of_twenty_files, tmp_path, s3, in_bucket
):
    flags, undisturbed = job_of_twenty_files
    address = "s3://bucket/scores"
    environment = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    ranks = two_ranks(tmp_path / "killed", *flags, address, kind=PredictRun, **environment)
    while any(rank.process.is_alive() for rank in ranks) and len(s3.glob(f"{address}/*.parquet", refresh=True)) < 3:
        time.sleep(0.01)
    for rank in ranks:
        rank.process.kill()
        rank.ended()
    assert "manifest.json" not in in_bucket(address), "killed in the middle"

    first, _ = map(ended_well, two_ranks(tmp_path / "again", *flags, address, kind=PredictRun, **environment))
    assert "Done before, and skipped" in first.errors
    assert in_bucket(address) == files_in(undisturbed)


def test_two_processes_score_several_labels_to_the_bytes_of_one(inputs, tiny_config, tokenizer, tmp_path):
    model = save_label_model(tmp_path / "model", tiny_config, tokenizer)
    for number in range(6):
        write_texts(inputs / f"part-{number}.csv", [text for text, _ in make_comments(100, seed=number)])
    write_csv(inputs / "sample_submission.csv", ["id", "threat", "prediction"], [])
    flags = ["--model", model, "--runtime", "torch", "--input"]
    for name, others in (("scores", [f"{inputs}/part-*.csv"]), ("submission", [inputs, "--submission"])):
        alone, together = tmp_path / f"{name} of one", tmp_path / f"{name} of two"
        ended_well(PredictRun(tmp_path / f"{name}-1", *flags, *others, "--output", alone))
        ranks = two_ranks(tmp_path / f"{name}-2", *flags, *others, "--output", together, kind=PredictRun)
        said = [ended_well(run).errors for run in ranks]
        assert files_in(together) == files_in(alone)
        assert len(files_in(alone)) == 7
        assert sum("The submission has the columns" in errors for errors in said) == (name == "submission")


def test_ctrl_c_says_what_is_kept_and_the_same_command_goes_on(job_of_twenty_files, tmp_path):
    flags, undisturbed = job_of_twenty_files
    disturbed = tmp_path / "disturbed"
    run = PredictRun(tmp_path / "stopped", *flags, disturbed)
    while run.process.is_alive() and len(list(disturbed.glob("*.parquet"))) < 3:
        time.sleep(0.002)
    os.kill(run.process.pid, signal.SIGINT)
    assert run.ended() == 130, run.errors
    assert "Traceback" not in run.errors
    told = r"stopped: (\d+) of 20 shards are scored and kept in (.*); the same command goes on with the others\."
    kept, folder = re.fullmatch(told, run.errors.splitlines()[-1]).groups()
    assert folder == str(disturbed)
    # Perhaps without the one that was written and not yet recorded.
    assert 2 <= int(kept) < 20, "stopped in the middle"
    assert not list(disturbed.glob(".*.unfinished"))

    assert f"skipped: {kept} of 20" in ended_well(PredictRun(tmp_path / "again", *flags, disturbed)).errors
    assert files_in(disturbed) == files_in(undisturbed)


def test_where_one_of_two_processes_fails_the_other_goes_on(model_dir, inputs, tmp_path):
    for number in range(6):
        texts = ["", "x"] if number == 2 else COMMENTS
        write_texts(inputs / f"part-{number}.csv", texts)
    # Of two processes without a GPU, `accelerate launch` starts both only if told that there are several GPUs.
    command = [*LAUNCH, "--multi_gpu", "--num_processes", "2", "--main_process_port", "0", "-m", "toxicity.predict"]
    command += [
        "--model",
        str(model_dir),
        "--runtime",
        "torch",
        "--input",
        str(inputs),
        "--output",
        str(tmp_path / "out"),
    ]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "part-2.csv, row 1: the text is missing" in done.stderr
    assert len(list((tmp_path / "out").glob("*.parquet"))) == 5
