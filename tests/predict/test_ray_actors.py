"""The command on a cluster of two nodes: its bytes are those of one process, whoever is killed in the middle."""

import os
import signal

import psutil
import pytest
from builders import files_in, make_comments, write_texts
from processes import PredictRun, ended_well
from ray_nodes import add_node, kill_one_actor, wait_for_outputs

pytestmark = pytest.mark.engine

SHARDS, ROWS = 12, 400


@pytest.fixture(scope="module")
def job_of_many_files(ray_nodes, tmp_path_factory, tiny_config, tokenizer):
    """The flags of a job on Ray, all but the folder of its output, and the output that one process makes."""
    import torch
    from transformers import BertForSequenceClassification

    folder = tmp_path_factory.mktemp("job")
    torch.manual_seed(0)
    model = BertForSequenceClassification(tiny_config)
    model.config.id2label, model.config.label2id = {0: "toxic"}, {"toxic": 0}
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    (folder / "in").mkdir()
    for number in range(SHARDS):
        write_texts(folder / "in" / f"{number:02d}.csv", [text for text, _ in make_comments(ROWS, seed=number)])
    flags = ["--model", folder / "model", "--runtime", "torch", "--input", folder / "in"]
    ended_well(PredictRun(folder / "runs", *flags, "--output", folder / "undisturbed"))
    on_ray = ["--engine", "ray", "--ray_address", ray_nodes.address, "--ray_num_cpus", 1]
    return [*flags, *on_ray, "--output"], folder / "undisturbed"


@pytest.fixture
def started(job_of_many_files, tmp_path):
    """A run of which the first shards are done, and its output folder."""
    flags, _ = job_of_many_files
    run = PredictRun(tmp_path / "run", *flags, tmp_path / "out")
    wait_for_outputs(tmp_path / "out", 2, run.process)
    return run, tmp_path / "out"


def test_its_bytes_are_those_of_one_process(job_of_many_files, tmp_path):
    flags, undisturbed = job_of_many_files
    run = ended_well(PredictRun(tmp_path / "run", *flags, tmp_path / "out"))
    assert files_in(tmp_path / "out") == files_in(undisturbed)
    assert f"Scored {SHARDS * ROWS:,} rows of {SHARDS} shards in " in run.errors
    assert "Asked Ray for workers: 2, each with 1 core." in run.errors


def test_when_an_actor_is_killed_others_do_its_shards(started, job_of_many_files, ray_nodes):
    run, output = started
    kill_one_actor(ray_nodes)
    ended_well(run)
    assert files_in(output) == files_in(job_of_many_files[1])
    assert "Lost a worker on node " in run.errors
    assert f"Scored {SHARDS * ROWS:,} rows of {SHARDS} shards in " in run.errors


def test_when_a_node_is_lost_the_others_do_its_shards(job_of_many_files, ray_nodes, tmp_path):
    flags, undisturbed = job_of_many_files
    node = add_node(ray_nodes, 1)
    run = PredictRun(tmp_path / "run", *flags, tmp_path / "out")
    wait_for_outputs(tmp_path / "out", 2, run.process)
    ray_nodes.remove_node(node, allow_graceful=False)
    ended_well(run)
    assert files_in(tmp_path / "out") == files_in(undisturbed)
    assert "Asked Ray for workers: 3, each with 1 core." in run.errors


@pytest.mark.long
def test_a_node_that_joins_later_is_put_to_work(job_of_many_files, ray_nodes, tmp_path):
    flags, undisturbed = job_of_many_files
    run = PredictRun(tmp_path / "run", *flags, tmp_path / "out", fault=("large_actors", 2))
    run.wait_for("Asked Ray for workers: 1, each with 2 cores.")
    node = add_node(ray_nodes, 2)
    ended_well(run)
    ray_nodes.remove_node(node)
    assert files_in(tmp_path / "out") == files_in(undisturbed)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_a_driver_that_was_stopped_goes_on_where_it_was(started, job_of_many_files, tmp_path, how):
    (run, output), (flags, undisturbed) = started, job_of_many_files
    os.kill(run.process.pid, how)
    assert run.ended() == (-how if how == signal.SIGKILL else 128 + how), run.errors
    assert 2 <= len(list(output.glob("*.parquet"))) < SHARDS, "stopped in the middle"
    if how == signal.SIGINT:
        assert f"of {SHARDS} shards are scored and kept in {output}" in run.errors
    assert "Traceback" not in run.errors
    again = ended_well(PredictRun(tmp_path / "again", *flags, output))
    assert "Done before, and skipped: " in again.errors
    assert files_in(output) == files_in(undisturbed)


def test_without_a_cluster_one_is_started_and_ended(job_of_many_files, tmp_path, monkeypatch):
    flags, undisturbed = job_of_many_files
    place = flags.index("--ray_address")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    before = {process.pid for process in psutil.process_iter()}
    ended_well(PredictRun(tmp_path / "run", *flags[:place], *flags[place + 2 :], tmp_path / "out"))
    assert files_in(tmp_path / "out") == files_in(undisturbed)
    left = [process for process in psutil.process_iter(["name"]) if process.pid not in before]
    assert not [process for process in left if process.ppid() == 1 and process.name() in ("raylet", "gcs_server")]
