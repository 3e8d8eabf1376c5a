"""Bodies and times that are refused."""

import asyncio
import json
import time

import pytest
from serving import TEXTS, error_of

from toxicity.serve import limits
from toxicity.serve.errors import ApiError, with_refusals
from toxicity.serve.limits import with_limits

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "EOF while parsing an object at line 1 column 1"),
        (b'{"texts": ["a"', "EOF while parsing"),
        (b'{"texts": [NaN]}', "expected value"),
        (b'{"texts": ["\\ud800"]}', "hex escape"),
        (b'{"texts": ["\xff"]}', "invalid unicode"),
        (b'{"texts": ["\xed\xa0\x80"]}', "invalid unicode"),
        ('{"texts": ["a"]}'.encode("utf-16"), "expected value"),
        (b"[" * 5_000, "recursion limit exceeded"),
        (b'{"texts":' * 5_000, "recursion limit exceeded"),
        (b"1" * 1_000_000, "number out of range"),
    ],
)
def test_what_is_no_json_is_refused(client, body, message):
    error = error_of(client.post("/v1/score", content=body, headers=JSON), 400, "INVALID_ARGUMENT")
    assert error["message"].startswith("The body is not valid JSON")
    assert message in error["message"]


WRONG = b"1," * (limits.MAX_BODY_BYTES // 2 - 100) + b"1"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1alpha1/comments:analyze", b'{"context": {"entries": [' + WRONG + b"]}}"),
        ("/v1alpha1/comments:suggestscore", b'{"attributeScores": {"TOXICITY": {"spanScores": [' + WRONG + b"]}}}"),
        ("/v1/score", b"{" + b",".join(b'"%x":1' % number for number in range(500_000)) + b"}"),
        ("/v1/score", b"[" * 8_000_000),
        ("/v1/score", b"[" * 20_000 + b'"' + b'\\"' * 4_000_000),
    ],
)
def test_more_values_than_any_request_needs_are_refused_before_they_are_read(client, path, body):
    start = time.monotonic()
    error = error_of(client.post(path, content=body, headers=JSON), 400, "INVALID_ARGUMENT")
    assert error["message"] == "The body holds more than 10,000 values."
    assert time.monotonic() - start < 5


def test_what_separates_values_may_stand_in_texts(client):
    texts = ['[{"a": 1}, \\,,' + "," * 1000] * 100
    assert client.post("/v1/score", json={"texts": texts}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        *[{"Content-Type": kind} for kind in ("text/plain", "application/x-www-form-urlencoded", "?", "")],
        {"Origin": "https://example.org"},
    ],
)
def test_other_types_are_refused(client, headers):
    answer = client.post("/v1/score", content=json.dumps({"texts": TEXTS}), headers=headers)
    assert "application/json" in error_of(answer, 415, "INVALID_ARGUMENT")["message"]


def test_a_type_may_have_parameters(client):
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert client.post("/v1/score", content=json.dumps({"texts": TEXTS}), headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/score", {"texts": TEXTS}),
        ("/v1alpha1/comments:analyze", {"comment": {"text": "kind"}, "requestedAttributes": {"TOXICITY": {}}}),
    ],
)
def test_a_body_without_a_type_is_taken_for_json(client, path, body):
    answer = client.post(path, content=json.dumps(body))
    assert "content-type" not in answer.request.headers
    assert answer.status_code == 200


def test_names_may_stand_without_quotes(client):
    body = """{comment: {text: "what kind of {idiot: 1} name is \\"foo: \\"?"}, languages: ["en"],
               requestedAttributes : {TOXICITY:{}} }"""
    usual = {"comment": {"text": 'what kind of {idiot: 1} name is "foo: "?'}, "requestedAttributes": {"TOXICITY": {}}}
    answers = [
        client.post("/v1alpha1/comments:analyze", content=body, headers=JSON),
        client.post("/v1alpha1/comments:analyze", json=usual),
    ]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json() == answers[1].json()


@pytest.mark.parametrize("body", [b"a" * 8_000_000, b"a " * 4_000_000, b'"\\"' * 2_000_000, b"a" + b" " * 8_000_000])
def test_what_is_no_json_is_soon_found_out(client, body):
    start = time.monotonic()
    error_of(client.post("/v1/score", content=body, headers=JSON), 400, "INVALID_ARGUMENT")
    assert time.monotonic() - start < 5


def test_large_bodies_are_refused_by_what_they_claim_and_by_what_they_are(client):
    body = b" " * (limits.MAX_BODY_BYTES + 1)
    for content in (body, iter([body[:-1], b" "])):
        answer = client.post("/v1/score", content=content, headers=JSON)
        error_of(answer, 413, "INVALID_ARGUMENT")
        assert answer.headers["connection"] == "close"


def call(app, messages, headers=((b"content-type", b"application/json"),), wait_forever=True):
    """What an application under `with_limits` answers to these messages: status and error, or None."""
    sent = []

    async def run():
        waiting = [*messages]

        async def receive():
            if not waiting and wait_forever:
                await asyncio.Event().wait()
            return waiting.pop(0)

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/", "headers": list(headers)}
        await asyncio.wait_for(with_refusals(with_limits(app))(scope, receive, send), 20)

    asyncio.run(run())
    return (sent[0]["status"], json.loads(sent[1]["body"])["error"]) if sent else None


def part(body=b"", more_body=False):
    return {"type": "http.request", "body": body, "more_body": more_body}


async def never(scope, receive, send):
    raise AssertionError("a route was called")


def test_a_body_that_comes_too_slowly_never_reaches_a_route(monkeypatch):
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.05)
    status, error = call(never, [part(b'{"texts"', more_body=True)])
    assert (status, error["status"]) == (408, "DEADLINE_EXCEEDED")


def test_a_body_that_is_cut_off_never_reaches_a_route():
    assert call(never, [part(b'{"texts"', more_body=True), {"type": "http.disconnect"}]) is None


def test_bodies_have_room_together(monkeypatch):
    monkeypatch.setattr(limits, "MAX_HELD_BYTES", 10)
    status, error = call(never, [part(b"[" + b" " * 10)])
    assert (status, error["status"]) == (429, "RESOURCE_EXHAUSTED")


def test_parts_of_bodies_take_room_too(monkeypatch):
    monkeypatch.setattr(limits, "MAX_HELD_BYTES", 10)

    async def run():
        app, forever = with_limits(never), asyncio.Event()

        async def receive_slowly():
            await asyncio.sleep(0)
            return part(b"[     ", more_body=True) if next(parts, None) else await forever.wait()

        async def receive():
            return part(b"[     ")

        parts = iter([True])
        scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
        slow = asyncio.ensure_future(app(scope, receive_slowly, None))
        await asyncio.sleep(0.1)
        with pytest.raises(ApiError, match="Too many requests"):
            await app(scope, receive, None)
        slow.cancel()
        await asyncio.wait([slow])
        # Given back: no room is missing, only the end of the list.
        with pytest.raises(ApiError, match="EOF"):
            await app(scope, receive, None)

    asyncio.run(run())


def test_room_is_given_back(monkeypatch, client):
    monkeypatch.setattr(limits, "MAX_HELD_BYTES", 1_000)
    for _ in range(100):
        assert client.post("/v1/score", json={"texts": TEXTS}).status_code == 200
        assert client.post("/v1/score", json={}).status_code == 400


def too_slow():
    """An application that answers too late, and a list that tells whether it was stopped."""
    cancelled = []

    async def app(scope, receive, send):
        try:
            await asyncio.sleep(20)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    return app, cancelled


def test_a_request_has_its_time(monkeypatch):
    monkeypatch.setattr(limits, "REQUEST_SECONDS", 0.05)
    slow, cancelled = too_slow()
    status, error = call(slow, [part(b"{}")])
    assert (status, error["status"]) == (504, "DEADLINE_EXCEEDED")
    assert cancelled


def test_a_request_is_given_up_when_its_client_has_gone():
    slow, cancelled = too_slow()
    assert call(slow, [part(b"{}"), {"type": "http.disconnect"}]) is None
    assert cancelled


def test_a_route_reads_the_whole_body_at_once():
    read = []

    async def route(scope, receive, send):
        read.append(await receive())

    assert call(route, [part(b'{"a"', more_body=True), part(b": 1}")]) is None
    assert read == [part(b'{"a": 1}')]
