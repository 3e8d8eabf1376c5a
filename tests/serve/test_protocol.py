"""Connections on which requests come slowly, or never."""

import asyncio
import logging
import socket
import threading
import time

import httpx
import pytest
import uvicorn
from serving import TEXTS, received, request, service_of

from toxicity.serve import limits, protocol
from toxicity.serve.app import create_app
from toxicity.serve.batcher import Batcher
from toxicity.serve.server import server_config, take_port


@pytest.fixture
def address(scorer, monkeypatch):
    """Of a server in a thread that waits for nobody long."""
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.3)
    listener = take_port("127.0.0.1", 0)
    server = uvicorn.Server(server_config(create_app(service_of(scorer)), timeout_keep_alive=1))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    until = time.monotonic() + 20
    while not server.started:
        assert time.monotonic() < until
        time.sleep(0.01)
    yield listener.getsockname()
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()


@pytest.fixture
def connect(address):
    def call(*parts, pause=0.1):
        """What comes back for parts that are sent one after the other, and how long it took, in seconds."""
        start = time.monotonic()
        with socket.create_connection(address, timeout=20) as connection:
            for part in parts:
                try:
                    connection.sendall(part)
                except OSError:
                    break
                time.sleep(pause)
            try:
                answer = received(connection)
            except ConnectionResetError:
                answer = b""
        return answer, time.monotonic() - start

    return call


BODY = b'{"texts": ["thank you"]}'


def test_who_says_nothing_is_not_waited_for(connect):
    answer, seconds = connect()
    assert answer == b""
    assert seconds < 5


@pytest.mark.parametrize("first", [b"", request("/v1/score", BODY).replace(b"Connection: close\r\n", b"")])
def test_a_head_that_comes_byte_by_byte_is_refused(connect, first):
    answer, seconds = connect(first, *[bytes([byte]) for byte in b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n"])
    assert answer.split(b"HTTP/1.1 ")[-1].startswith(b"408 ")
    assert b'"DEADLINE_EXCEEDED"' in answer
    assert answer.count(b"HTTP/1.1 200") == bool(first)
    assert seconds < 5


def test_blank_lines_keep_no_connection_open(connect):
    _, seconds = connect(*[b"\r\n"] * 40)
    assert seconds < 3


def test_a_body_that_comes_byte_by_byte_is_refused(connect):
    head = request("/v1/score", b"", length=len(BODY))
    answer, seconds = connect(head, *[bytes([byte]) for byte in BODY])
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert seconds < 5


def test_who_sends_on_after_a_refusal_is_cut_off(connect):
    head = request("/v1/score", b"", length=10**9)
    answer, seconds = connect(head, *[b"x" * 1000] * 40)
    assert answer.startswith(b"HTTP/1.1 413 ") or not answer
    assert seconds < 5


def test_requests_behind_each_other_are_answered_in_order(connect):
    one = request("/v1/score", BODY).replace(b"Connection: close\r\n", b"")
    answer, _ = connect(one + b"GET /healthz HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert answer.index(b"results") < answer.index(b'"ok"')


@pytest.mark.parametrize("last", [b"", b"no HTTP\r\n\r\n"])
def test_requests_behind_each_other_are_given_up_with_their_connection(address, last, monkeypatch, caplog):
    cancelled = threading.Event()

    async def score(batcher, texts):
        try:
            await asyncio.sleep(20)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    monkeypatch.setattr(Batcher, "score", score)
    with socket.create_connection(address) as connection:
        connection.sendall(request("/v1/score", BODY).replace(b"Connection: close\r\n", b"") * 3)
        time.sleep(0.1)
        connection.sendall(last)
        time.sleep(0.1)
    assert cancelled.wait(10)
    time.sleep(0.1)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_a_connection_is_used_again(address):
    with httpx.Client(base_url="http://{}:{}".format(*address), trust_env=False) as client:
        for pause in (0, 0.5, 0.5):
            time.sleep(pause)
            assert client.post("/v1/score", json={"texts": TEXTS}).status_code == 200
