"""Connecting to a cluster, what actors take of it, and requests that are refused before any is asked for."""

import sys
import time

import pytest
from processes import free_port

from toxicity.core import distributed
from toxicity.core.errors import RequestError
from toxicity.predict import ray_cluster
from toxicity.predict.ray_actors import ray_actors
from toxicity.predict.ray_cluster import Size, connected, room_for, size_of_actors


@pytest.fixture
def ray():
    return pytest.importorskip("ray", reason="the extra `ray` is not installed")


def test_without_ray_it_says_how_to_install_it(score, comments_csv, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert score("--engine", "ray", "--input", comments_csv) == 2
    assert "Ray is not installed" in (error := capsys.readouterr().err)
    assert "pip install -r requirements-ray.txt" in error


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--ray_address", "auto"], "--ray_address means nothing without --engine ray"),
        (["--ray_num_cpus", 2], "--ray_num_cpus means nothing without --engine ray"),
        (["--engine", "ray", "--ray_num_cpus", 0], "--ray_num_cpus 0: say how many cores, 1 or more"),
        (["--engine", "ray", "--input", "-"], "--input - is read by one process alone: leave --engine ray out"),
        (["--engine", "ray", "--export", "onnx"], "--engine means nothing with --export"),
    ],
)
def test_flags_that_make_no_sense(score, comments_csv, capsys, flags, message):
    assert score("--input", comments_csv, *flags) == 2
    assert message in capsys.readouterr().err


def test_under_a_launcher_it_says_to_leave_that_out(monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    with pytest.raises(RequestError, match="start this command with python -m, without launcher"):
        with ray_actors(None, None):
            pass


@pytest.mark.usefixtures("ray")
@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:PORT", "there is no Ray cluster at 127.0.0.1:PORT ("),
        ("[::1]:PORT", "there is no Ray cluster at [::1]:PORT ("),
        ("cluster", "there is no Ray cluster at cluster ("),
        ("127.0.0.1:port", "there is no Ray cluster at 127.0.0.1:port ("),
        ("ray://127.0.0.1:10001", "(run this command on a machine of the cluster, or with `ray job submit`)"),
    ],
)
@pytest.mark.parametrize("where", ["flag", "environment"])
def test_where_there_is_no_cluster_it_says_so_soon(monkeypatch, address, message, where):
    address, message = (text.replace("PORT", free_port()) for text in (address, message))
    message = message.rsplit(":", 1)[0].split(" (")[0] if "there is no" in message else message
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if where == "environment":
        monkeypatch.setenv("RAY_ADDRESS", address)
    began = time.monotonic()
    with pytest.raises(RequestError) as refused, connected(address if where == "flag" else None):
        pass
    assert message in str(refused.value)
    assert time.monotonic() - began < 10


@pytest.mark.usefixtures("ray")
def test_auto_where_nothing_runs_is_refused(monkeypatch):
    from ray._private import services

    def nothing(address):
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr(services, "canonicalize_bootstrap_address", nothing)
    with pytest.raises(RequestError, match=r"no Ray cluster at auto \(Could not find any .* leave --ray_address out"):
        with connected("auto"):
            pass


@pytest.mark.parametrize(
    ("nodes", "cores", "on_cpu", "size", "room"),
    [
        ([{"CPU": 2}], None, False, Size(2, 0), 1),
        ([{"CPU": 2}], 1, False, Size(1, 0), 2),
        ([{"CPU": 16}, {"CPU": 6}], None, False, Size(4, 0), 5),
        ([{"CPU": 0.5}, {"CPU": 3}], 8, False, Size(3, 0), 1),
        ([{}], None, False, Size(4, 0), 1),
        ([], 2, False, Size(2, 0), 1),
        ([{"CPU": 64, "GPU": 8}], None, False, Size(4, 1), 8),
        ([{"CPU": 64, "GPU": 8}], 16, False, Size(8, 1), 8),
        ([{"CPU": 64, "GPU": 8}, {"CPU": 8}], None, True, Size(4, 0), 18),
        ([{"CPU": 64, "GPU": 8}, {"CPU": 4, "GPU": 2}], None, False, Size(2, 1), 10),
        ([{"CPU": 1, "GPU": 2}], None, False, Size(0, 1), 2),
        ([{"CPU": 4, "GPU": 0.5}], None, False, Size(4, 0), 1),
    ],
)
def test_an_actor_takes_a_gpu_or_a_few_cores(monkeypatch, nodes, cores, on_cpu, size, room):
    monkeypatch.setattr(ray_cluster, "living_nodes", lambda: dict(enumerate(nodes)))
    assert size_of_actors(cores, on_cpu) == size
    assert room_for(size) == room


@pytest.mark.parametrize(
    ("size", "told"),
    [(Size(1, 0), "1 core"), (Size(4, 0), "4 cores"), (Size(2, 1), "a GPU and 2 cores"), (Size(0, 1), "a GPU")],
)
def test_a_size_in_words(size, told):
    assert size.told == told
