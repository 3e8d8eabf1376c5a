"""The application: one form of errors, health, metrics, and who may call from a browser."""

import asyncio
import gc
import threading

import numpy as np
import pytest
from fastapi import APIRouter
from fastapi.testclient import TestClient
from serving import TEXTS, client_of, error_of, service_of

from toxicity.core.errors import RequestError
from toxicity.serve import scores
from toxicity.serve.app import create_app
from toxicity.serve.metrics import Metrics


@pytest.mark.parametrize(
    ("method", "address", "code", "status"),
    [
        ("GET", "/nowhere", 404, "NOT_FOUND"),
        ("POST", "/v1/score/", 404, "NOT_FOUND"),
        ("GET", "/docs", 404, "NOT_FOUND"),
        ("GET", "/v1/%00%ff/../..//", 404, "NOT_FOUND"),
        ("GET", "/v1/score", 405, "INVALID_ARGUMENT"),
        ("DELETE", "/v1/model", 405, "INVALID_ARGUMENT"),
        ("BREW", "/v1/model", 405, "INVALID_ARGUMENT"),
    ],
)
def test_refusals_of_the_framework_have_the_same_form(client, method, address, code, status):
    answer = client.request(method, address)
    error_of(answer, code, status)
    assert code != 405 or answer.headers["allow"]


class Panic(BaseException):
    """What code in Rust raises where it fails."""


@pytest.mark.parametrize(
    "error", [ValueError("you stupid liar"), Panic("you stupid liar"), RequestError("a logit is not finite")]
)
def test_what_fails_is_told_in_the_log_without_what_was_written(service, monkeypatch, caplog, error):
    async def fail(texts):
        raise error from KeyError("you filthy idiot")

    monkeypatch.setattr(service.batcher, "score", fail)
    with client_of(service) as client:
        failure = error_of(client.post("/v1/score", json={"texts": TEXTS}), 500, "INTERNAL")
        assert client.get("/healthz").status_code == 200
    assert failure["message"] == "The service failed at this request. Its log says where."
    (line,) = [record.getMessage() for record in caplog.records if record.name.startswith("toxicity")]
    if isinstance(error, RequestError):
        assert line == "A request failed: a logit is not finite"
    else:
        assert f"{type(error).__name__} at " in line
        assert "in fail, after KeyError at" in line
        assert "stupid" not in caplog.text
        assert "filthy" not in caplog.text


def test_what_fails_outside_of_a_request_is_told_in_the_same_way(service, monkeypatch, caplog):
    async def fail():
        raise ValueError("you stupid liar")

    async def score(texts):
        forgotten = asyncio.ensure_future(fail())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        del forgotten
        gc.collect()
        asyncio.get_running_loop().call_soon(int, "you filthy idiot")
        await asyncio.sleep(0)
        return np.zeros((len(texts), 3))

    monkeypatch.setattr(service.batcher, "score", score)
    with client_of(service) as client:
        assert client.post("/v1/score", json={"texts": TEXTS}).status_code == 200
    lines = [record.getMessage() for record in caplog.records if "outside of a request" in record.getMessage()]
    assert len(lines) == 2
    assert "ValueError at" in lines[0]
    assert "in fail" in lines[0]
    assert "stupid" not in caplog.text
    assert "filthy" not in caplog.text


def test_an_answer_that_has_begun_is_cut_off(service, monkeypatch):
    router = APIRouter()

    @router.get("/torn")
    async def torn():
        from fastapi.responses import StreamingResponse

        async def parts():
            yield b"a"
            raise ValueError

        return StreamingResponse(parts())

    monkeypatch.setattr(scores, "routes", lambda service: router)
    with client_of(service) as client:
        with client.stream("GET", "/torn") as answer:
            assert b"".join(answer.iter_raw()) == b"a"


def test_health_and_readiness(service, monkeypatch):
    told = []
    app = create_app(service)
    monkeypatch.setattr(threading, "current_thread", threading.main_thread)
    monkeypatch.setattr("signal.signal", lambda number, handle: told.append(handle))
    monkeypatch.setattr("signal.getsignal", lambda number: None)
    with TestClient(app) as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        assert client.get("/readyz").json() == {"status": "ok"}
        # As a signal does it.
        for handle in told:
            handle(15, None)
        error_of(client.get("/readyz"), 503, "UNAVAILABLE")
        assert client.get("/healthz").status_code == 200
        assert client.post("/v1/score", json={"texts": TEXTS}).status_code == 200
    assert app.openapi()["paths"].keys() >= {"/healthz", "/readyz", "/metrics", "/v1/score", "/v1/model"}


def test_pages_of_other_sites_may_call_only_where_it_is_asked_for(scorer):
    asked = {"Origin": "https://forum.example", "Access-Control-Request-Method": "POST"}
    asked["Access-Control-Request-Headers"] = "content-type,x-goog-api-key"
    with client_of(service_of(scorer)) as client:
        assert "access-control-allow-origin" not in client.options("/v1/score", headers=asked).headers
        assert "access-control-allow-origin" not in client.get("/v1/model", headers=asked).headers
    with client_of(service_of(scorer, cors_origins=("https://forum.example",))) as client:
        answer = client.options("/v1/score", headers=asked)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://forum.example"
        # Refusals can be read, too.
        for address in ("/v1/model", "/v1/score", "/nowhere"):
            assert client.get(address, headers=asked).headers["access-control-allow-origin"] == "https://forum.example"
        other = client.get("/v1/model", headers={"Origin": "https://other.example"})
        assert "access-control-allow-origin" not in other.headers


def test_browsers_ask_without_a_key_whether_they_may_call(scorer, tmp_path):
    (tmp_path / "keys").write_text("key\n")
    service = service_of(scorer, cors_origins=("*",), api_keys=tmp_path / "keys")
    asked = {"Origin": "https://forum.example", "Access-Control-Request-Method": "POST"}
    with client_of(service) as client:
        assert client.options("/v1/score", headers=asked).status_code == 200
        refused = client.post("/v1/score", json={"texts": TEXTS}, headers=asked)
        error_of(refused, 403, "PERMISSION_DENIED")
        assert refused.headers["access-control-allow-origin"] == "*"


def test_metrics_count_requests_texts_and_batches(scorer):
    metrics = Metrics()
    service = service_of(scorer, metrics)
    with client_of(service, metrics) as client:
        for _ in range(3):
            client.post("/v1/score", json={"texts": TEXTS})
        client.post("/v1/score", json={})
        for number in range(5):
            client.get(f"/nowhere/{number}")
        answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    lines = dict(line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#"))
    assert lines['toxicity_requests_total{route="/v1/score",status="200"}'] == "3.0"
    assert lines['toxicity_requests_total{route="/v1/score",status="400"}'] == "1.0"
    assert lines['toxicity_requests_total{route="other",status="404"}'] == "5.0"
    assert lines['toxicity_request_seconds_count{route="/v1/score"}'] == "4.0"
    assert lines["toxicity_texts_total"] == "6.0"
    assert float(lines["toxicity_tokens_total"]) > 30
    assert float(lines["toxicity_batch_texts_sum"]) == 6
    assert lines["toxicity_waiting_texts"] == "0.0"
    assert "nowhere" not in answer.text
    assert float(lines["process_resident_memory_bytes"]) > 0
