"""The service in a process of its own: how it starts and stops, and clients that are slow, cut off or no clients."""

import json
import os
import signal
import time

import httpx
import pytest
from serving import TEXTS, ServeRun, received, request

from toxicity.serve.limits import MAX_TEXT_BYTES

BODY = json.dumps({"texts": TEXTS}).encode()


@pytest.fixture(scope="module")
def running(labels_dir, tmp_path_factory):
    run = ServeRun(tmp_path_factory.mktemp("run"), "--model", labels_dir)
    yield run
    run.terminate()
    assert run.ended() == 0, run.errors


def answer_to(running, sent):
    with running.connect() as connection:
        connection.sendall(sent)
        head, _, body = received(connection).partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def test_it_answers_and_says_where(running):
    answer = httpx.post(f"{running.url}/v1/score", json={"texts": TEXTS}, trust_env=False)
    assert answer.status_code == 200
    assert "server" not in answer.headers
    assert len(running.errors.splitlines()) == 1, running.errors


@pytest.mark.parametrize(
    "sent",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET http://[ HTTP/1.1\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"POST /v1/score HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST /v1/score HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /v1/score HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nno number\r\n",
    ],
)
def test_what_is_no_http_is_answered_and_not_logged(running, sent):
    code, body = answer_to(running, sent)
    assert (code, body["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert len(running.errors.splitlines()) == 1, running.errors


@pytest.mark.parametrize("line", [b"OPTIONS *", b"GET http://example.org/", b"CONNECT example.org:443", b"GET //"])
def test_unusual_targets_are_no_addresses(running, line):
    code, body = answer_to(running, line + b" HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert (code, body["error"]["code"]) in ((404, 404), (400, 400))
    assert len(running.errors.splitlines()) == 1, running.errors


def test_a_head_without_end_is_refused(running):
    with running.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nx: " + b"y" * 80_000)
        assert received(connection).startswith(b"HTTP/1.1 431 ")


def test_a_body_that_is_cut_off_does_no_harm(running):
    for _ in range(3):
        with running.connect() as connection:
            connection.sendall(request("/v1/score", BODY[:10], length=len(BODY)))
    code, _ = answer_to(running, request("/v1/score", BODY))
    assert code == 200


def test_a_long_text_is_refused_when_it_is_there(running):
    long = json.dumps({"texts": ["x" * 1_000_000]}).encode()
    code, body = answer_to(running, request("/v1/score", long))
    assert (code, f"{MAX_TEXT_BYTES:,} bytes" in body["error"]["message"]) == (400, True)


def test_a_client_that_asks_first_is_told_to_go_on(running):
    with running.connect() as connection:
        connection.sendall(request("/v1/score", b"", "Expect: 100-continue", length=len(BODY)))
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(BODY)
        assert received(connection).startswith(b"HTTP/1.1 200 OK")
    with running.connect() as connection:
        connection.sendall(request("/v1/score", b"", "Expect: 100-continue", length=10**9))
        assert received(connection).startswith(b"HTTP/1.1 413 ")


def test_an_upgrade_is_not_taken(running):
    answer = httpx.get(
        f"{running.url}/healthz", headers={"Connection": "Upgrade", "Upgrade": "websocket"}, trust_env=False
    )
    assert answer.status_code == 200
    assert len(running.errors.splitlines()) == 1, running.errors


def test_secrets_and_comments_are_in_no_log(running):
    for path in ("/v1/score?key=secret-key", "/nowhere?key=secret-key&text=secret-text", "/secret-text"):
        httpx.post(running.url + path, json={"texts": ["secret-text", 1]}, trust_env=False)
    assert "secret" not in running.errors + running.output


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_what_is_in_flight_is_finished(labels_dir, tmp_path, number, code):
    run = ServeRun(tmp_path, "--model", labels_dir)
    sent = request("/v1/score", BODY)
    with run.connect() as idle, run.connect() as connection:
        connection.sendall(sent[:-10])
        time.sleep(0.2)
        os.kill(run.process.pid, number)
        assert received(idle) == b""
        with pytest.raises(ConnectionError):
            run.connect()
        connection.sendall(sent[-10:])
        assert received(connection).startswith(b"HTTP/1.1 200 OK")
    assert run.ended() == code
    assert "Traceback" not in run.errors


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model", "nowhere"], "error: cannot load nowhere"),
        (
            ["--threshold_for", "recall=0.5"],
            "error: --threshold_for recall=0.5: the model's config.json has thresholds",
        ),
        (["--toxic_label", "rude"], "rude"),
    ],
)
def test_a_model_that_cannot_be_served_is_told_in_a_line(labels_dir, tmp_path, flags, message):
    run = ServeRun(tmp_path, "--model", labels_dir, *flags)
    assert run.ended() == 2
    (line,) = run.errors.splitlines()
    assert line.startswith("error: ")
    assert message in line
