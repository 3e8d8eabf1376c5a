"""The page beside the API."""

import asyncio
import time
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient
from serving import TEXTS, error_of, service_of

from toxicity.serve import beside, limits
from toxicity.serve.app import create_app


@pytest.fixture
def page():
    """A page that takes uploads, and has a stream that never ends."""

    @asynccontextmanager
    async def lifespan(app):
        app.state.began = True
        yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def index():
        return "the page" if app.state.began else None

    @app.post("/upload")
    async def upload(request: Request):
        return len(await request.body())

    @app.get("/events")
    async def events():
        async def parts():
            while True:
                yield b"tick\n"
                await asyncio.sleep(0.01)

        return StreamingResponse(parts())

    return app


@pytest.fixture
def client(scorer, page, tmp_path):
    (tmp_path / "keys").write_text("key\n")
    with TestClient(create_app(service_of(scorer, api_keys=tmp_path / "keys"), page=page)) as client:
        yield client


def test_the_page_has_neither_keys_nor_limits_of_the_api(client, monkeypatch):
    monkeypatch.setattr(limits, "MAX_BODY_BYTES", 10)
    assert client.get("/").json() == "the page"
    assert client.post("/upload", content=b"x" * 100).json() == 100
    assert client.get("/nowhere").json() == {"detail": "Not Found"}


def test_addresses_of_the_api_stay_the_api_s(client):
    for address in ("/v1/score", "/v1/nowhere", "/metrics", "/openapi.json"):
        error_of(client.get(address), 403, "PERMISSION_DENIED")
    error_of(client.get("/v1/nowhere?key=key"), 404, "NOT_FOUND")
    error_of(client.get("/v1/score?key=key"), 405, "INVALID_ARGUMENT")
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.post("/v1/score?key=key", json={"texts": TEXTS}).status_code == 200
    error_of(client.post("/v1/score?key=key", content=b"x" * 100), 400, "INVALID_ARGUMENT")


def test_a_stream_of_the_page_ends_when_the_service_stops(page, monkeypatch):
    monkeypatch.setattr(beside, "STOP_SECONDS", 0.1)

    async def run():
        stop = asyncio.Event()
        app = beside.with_page(None, page, api={"v1"}, stop=stop)
        asyncio.get_running_loop().call_later(0.2, stop.set)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return (await client.get("/events")).text

    start = time.monotonic()
    assert set(asyncio.run(run()).split()) == {"tick"}
    assert time.monotonic() - start < 10
