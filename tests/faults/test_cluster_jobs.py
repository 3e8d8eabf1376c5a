"""The jobs in examples/ really train on two machines, on loopback, and go on after a signal to one of them."""

import json
import time

import pytest
import yaml
from builders import write_comments
from machines import JOBS

from toxicity.training.checkpoints import fault_of

pytestmark = pytest.mark.long


@pytest.mark.parametrize("name", JOBS)
def test_a_machine_that_is_taken_away_costs_nothing(checkpoint, tmp_path, name):
    # A hundred steps and more of a tiny model, on a CPU, in the fp16 of the Accelerate config.
    options = {"model_name_or_path": str(checkpoint), "max_seq_length": 32, "use_cpu": True, "num_train_epochs": 15}
    options |= {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 1, "logging_steps": 2}
    options |= {"save_strategy": "no"}
    folder, flags, recipe = tmp_path / "job", [], tmp_path / "tiny.yaml"
    job = JOBS[name](folder, str(recipe))
    comments = write_comments(folder / "train.csv", 96)
    recipe.write_text(yaml.safe_dump(options))
    if name == "Slurm":
        # Its script is run as it is, with the published recipe.
        options |= {"train_file": comments, "output_dir": folder / "runs" / "reference"}
        flags = [part for key, value in options.items() for part in (f"--{key}", value)]
    job.start(*flags)
    job.wait_for("Training: step 4 of 120")
    started = time.monotonic()
    job.terminate_second_machine()
    assert set(job.ended()) == {75}, job.log(0) + job.log(1)
    assert time.monotonic() - started < 60
    assert "Interrupted by SIGTERM after step" in job.log(0)
    assert "Traceback" not in job.log(0) + job.log(1)
    run = folder / "runs" / "reference"
    assert [fault_of(checkpoint) for checkpoint in run.glob("checkpoint-*")] == [None]
    if name == "Slurm":
        assert (folder / "scontrol.log").read_text().startswith("requeue ")

    again = JOBS[name](folder, str(recipe))
    again.start(*flags)
    assert set(again.ended()) == {0}, again.log(0) + again.log(1)
    row = json.loads((run / "report" / "benchmark.json").read_text())
    assert [part["cause"] for part in row["timing"]["interruptions"]] == ["SIGTERM"]
    assert row["machine"]["device_count"] == 2
    assert row["throughput"]["training_rows_per_second"] * row["timing"]["training_seconds"] == pytest.approx(15 * 64)
