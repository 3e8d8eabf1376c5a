"""Jobs on a real cluster, driven by this process, whose nodes lack something or whose actors die."""

import os
import time

import pytest
from builders import make_comments, write_texts

from toxicity.predict import ray_actors, ray_cluster
from toxicity.predict.ray_actor import ScoringActor
from toxicity.predict.ray_cluster import Size

pytestmark = pytest.mark.engine


@pytest.fixture
def inputs(tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(4):
        write_texts(tmp_path / "in" / f"{number}.csv", [text for text, _ in make_comments(30, seed=number)])
    return tmp_path / "in"


@pytest.fixture
def score_on_ray(score, inputs, ray_nodes, tmp_path, monkeypatch):
    """The command on the cluster, with a class of actors: get its exit code. Local classes are sent to the nodes."""

    def call(kind=ScoringActor):
        monkeypatch.setattr(ray_actors, "ScoringActor", kind)
        flags = ["--engine", "ray", "--ray_address", ray_nodes.address, "--ray_num_cpus", 1, "--runtime", "torch"]
        return score("--input", inputs, *flags)

    yield call
    assert not list(tmp_path.rglob("probe-*"))


def kind_of_actor(**methods):
    """A class of actors with other methods, that Ray sends to the nodes, as no module of theirs has it."""
    return type("ScoringActor", (ScoringActor,), methods | {"__module__": "__main__"})


def refused(code, capsys, message):
    error = capsys.readouterr().err
    assert code == 2, error
    assert message in error
    assert "Traceback" not in error


def test_nodes_with_another_version_of_the_package_are_refused(score_on_ray, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(ray_actors, "digest_of_sources", lambda: "another")
    refused(score_on_ray(), capsys, "there is another version of this package: install the same everywhere")
    assert not (tmp_path / "out").exists(), "nothing was made for the probe alone"


def test_what_a_node_cannot_import_is_named(score_on_ray, capsys):
    def load(self):
        import a_package_that_is_not_there  # noqa: F401

    message = "cannot be imported (No module named 'a_package_that_is_not_there'): install there what is installed here"
    refused(score_on_ray(kind_of_actor(load=load)), capsys, message)


def test_nodes_without_the_package_are_refused(score_on_ray, capsys, monkeypatch):
    # Ray brings it there; here it brings another class than nodes have.
    kind = type("ScoringActor", (ScoringActor,), {"__module__": "toxicity.predict.ray_cluster"})
    monkeypatch.setattr(ray_cluster, "ScoringActor", kind, raising=False)
    refused(score_on_ray(kind), capsys, "cannot be imported (")


def test_another_version_of_ray_is_refused(score_on_ray, capsys, monkeypatch):
    import ray

    monkeypatch.setattr(ray, "__version__", "1.2.3")
    refused(score_on_ray(), capsys, "cannot join the Ray cluster at ")
    assert not ray.is_initialized()


@pytest.mark.long
def test_actors_that_die_before_they_can_score_end_the_job(score_on_ray, capsys, monkeypatch):
    def load(self):
        os._exit(1)

    monkeypatch.setattr(ray_actors, "MOST_STARTS", 2)
    assert score_on_ray(kind_of_actor(load=load)) == 1
    assert "all workers of Ray died before they could score: " in capsys.readouterr().err


def test_where_there_is_no_place_for_long_the_job_ends(score_on_ray, capsys, monkeypatch):
    monkeypatch.setattr(ray_actors, "size_of_actors", lambda cores, on_cpu: Size(64, 0))
    monkeypatch.setattr(ray_actors, "PATIENCE_SECONDS", 1.0)
    monkeypatch.setattr(ray_actors, "SECONDS_BETWEEN_LOOKS", 0.2)
    began = time.monotonic()
    assert score_on_ray() == 1
    assert "Ray found no place for a worker with 64 cores in" in capsys.readouterr().err
    assert time.monotonic() - began < 60


@pytest.mark.long
def test_a_shard_that_ends_every_worker_fails_and_the_others_are_scored(score_on_ray, capsys, tmp_path):
    def score(self, shards, outputs):
        if any(shard.name == "2" for shard in shards):
            os._exit(1)
        return ScoringActor.score(self, shards, outputs)

    assert score_on_ray(kind_of_actor(score=score)) == 1
    error = capsys.readouterr().err
    assert f"Failed: {tmp_path}/in/2.csv: 3 workers died when they scored it (" in error
    assert "Failed: 1 shards." in error
    assert "Scored 90 rows of 3 shards" in error
    assert {path.stem for path in (tmp_path / "out").glob("*.parquet")} == {"0", "1", "3"}


@pytest.mark.long
def test_a_worker_whose_scores_would_differ_is_not_used(score_on_ray, capsys, tmp_path):
    def load(self):
        job = ScoringActor.load(self)
        (tmp_path / "loaded" / str(os.getpid())).mkdir(parents=True)
        return job | {"versions": {"torch": os.getpid()}}

    def score(self, shards, outputs):
        while len(list((tmp_path / "loaded").iterdir())) < 2:
            time.sleep(0.1)
        time.sleep(0.5)
        return ScoringActor.score(self, shards, outputs)

    assert score_on_ray(kind_of_actor(load=load, score=score)) == 0
    error = capsys.readouterr().err
    assert "Not used for this job: " in error
    assert "the processes would not give the same scores: one on node " in error
    assert "Scored 120 rows of 4 shards" in error
