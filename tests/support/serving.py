"""The service in this process or in one of its own, and what its tests send."""

import re
import socket
from pathlib import Path

from fastapi.testclient import TestClient
from processes import Run

from toxicity.predict.scorer import Scorer
from toxicity.serve.app import create_app
from toxicity.serve.batcher import Batcher
from toxicity.serve.metrics import Metrics
from toxicity.serve.service import Service
from toxicity.serve.settings import Settings

TEXTS = ["you are a stupid liar", "thank you for the kind note"]


def service_of(scorer: Scorer, metrics: Metrics | None = None, **settings: object) -> Service:
    """A service of this scorer; `settings` are fields of `Settings`."""
    batcher = Batcher(scorer, on_batch=metrics.add_batch if metrics else None)
    return Service(Settings(**{"model": "model"} | settings), scorer, batcher)


def client_of(service: Service, metrics: Metrics | None = None) -> TestClient:
    """A client of its application, to be entered as a context."""
    return TestClient(create_app(service, metrics))


def error_of(answer: object, code: int, status: str) -> dict:
    """The error in an answer, which has to be in Google's form."""
    body = answer.json()
    assert (answer.status_code, body["error"]["code"], body["error"]["status"]) == (code, code, status)
    assert body.keys() == {"error"}
    return body["error"]


class ServeRun(Run):
    """A process of `python -m toxicity.serve` at a port of its own."""

    script = "toxicity.serve"

    def __init__(self, folder: Path, *flags: object, **environment: str) -> None:
        super().__init__(folder, "--port", 0, "--runtime", "torch", *flags, **environment)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port, once it listens."""
        self.wait_for("Scoring comments at")
        host, port = re.search(r"http://([\d.]+):(\d+)", self.errors).groups()
        return host, int(port)

    @property
    def url(self) -> str:
        """The address as clients take it."""
        return "http://{}:{}".format(*self.address)

    def connect(self) -> socket.socket:
        """A connection that nothing was sent on."""
        return socket.create_connection(self.address, timeout=30)


def received(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def request(path: str, body: bytes = b"", *headers: str, length: int | None = None) -> bytes:
    """A POST as it goes over the line; `length` is the one it claims."""
    lines = [f"POST {path} HTTP/1.1", "Host: test", "Content-Type: application/json", "Connection: close", *headers]
    lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode() + body
