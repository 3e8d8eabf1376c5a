"""Several workers at one port."""

import os
import signal
import sys
import time

import httpx
import psutil
import pytest
from serving import TEXTS, ServeRun, received, request


@pytest.fixture
def running(labels_dir, tmp_path):
    run = ServeRun(tmp_path, "--model", labels_dir, "--workers", 2)
    yield run
    if run.process.is_alive():
        run.terminate()
        assert run.ended() == 0, run.errors


def workers_of(run):
    """Processes that are waited for, without the tracker of `multiprocessing`."""
    children = psutil.Process(run.process.pid).children()
    return [child.pid for child in children if "spawn_main" in " ".join(child.cmdline())]


def is_open(run):
    try:
        run.connect().close()
    except ConnectionError:
        return False
    return True


def numbers(run):
    text = httpx.get(f"{run.url}/metrics", trust_env=False).text
    return dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))


def test_one_that_dies_is_replaced_and_the_numbers_are_of_all(running):
    for _ in range(8):
        answer = httpx.post(f"{running.url}/v1/score", json={"texts": TEXTS}, trust_env=False)
        assert answer.status_code == 200
    before = workers_of(running)
    assert len(before) == 2
    assert numbers(running)["toxicity_texts_total"] == "16.0"
    os.kill(before[0], signal.SIGKILL)
    running.wait_for("A worker has ended with code -9: starting another.")
    # The other one answers in the meantime.
    assert httpx.get(f"{running.url}/healthz", trust_env=False, timeout=60).status_code == 200
    until = time.monotonic() + 120
    while len(workers_of(running)) < 2:
        assert time.monotonic() < until
        time.sleep(0.1)
    assert before[1] in workers_of(running)
    assert numbers(running)["toxicity_texts_total"] == "16.0"
    body = b'{"texts": ["thank you"]}'
    with running.connect() as connection:
        connection.sendall(request("/v1/score", body)[:-5])
        time.sleep(0.5)
        running.terminate()
        # New clients are refused though a request is in flight, once the worker that loads yet has given up, too.
        until = time.monotonic() + 15
        while is_open(running):
            assert time.monotonic() < until
            time.sleep(0.1)
        connection.sendall(body[-5:])
        assert received(connection).startswith(b"HTTP/1.1 200 OK")
    assert running.ended() == 0
    assert "Traceback" not in running.errors


def test_a_model_that_cannot_be_loaded_is_told_once(tmp_path):
    run = ServeRun(tmp_path, "--model", "nowhere", "--workers", 2)
    assert run.ended() == 2
    (line,) = run.errors.splitlines()
    assert line.startswith("error: cannot load nowhere")


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has died")
def test_no_worker_outlives_the_first_process(running):
    assert running.url
    workers = [psutil.Process(pid) for pid in workers_of(running)]
    assert len(workers) == 2
    running.process.kill()
    gone, alive = psutil.wait_procs(workers, timeout=60)
    assert (len(gone), alive) == (2, [])


@pytest.mark.long
def test_sighup_replaces_the_workers_one_after_the_other(running):
    httpx.get(f"{running.url}/healthz", trust_env=False)
    before = workers_of(running)
    os.kill(running.process.pid, signal.SIGHUP)
    until = time.monotonic() + 120
    while set(workers_of(running)) & set(before):
        assert httpx.get(f"{running.url}/healthz", trust_env=False, timeout=60).status_code == 200
        assert time.monotonic() < until
        time.sleep(0.2)
    assert len(workers_of(running)) == 2
