"""What Prometheus may ask: requests, texts, batches, times."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from fastapi import APIRouter, Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from toxicity.serve.batcher import Batcher

# Where several workers leave their numbers for each other; prometheus_client reads it when it is imported.
SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
# In place of the status of a request whose client has gone before the answer, as nginx has it.
CLIENT_GONE = "499"


class Metrics:
    """Counts what one process does; `text` is the numbers of all workers."""

    def __init__(self) -> None:
        self.queue_length: Callable[[], int] = lambda: 0
        self._shared = os.environ.get(SHARED_FOLDER)
        if self._shared:
            _forget_dead_workers(Path(self._shared))
        self._registry = registry = CollectorRegistry()
        if not self._shared:  # of several workers it would be that of the one that is asked
            ProcessCollector(registry=registry)
        # Routes as they are declared, so that nobody can make labels of their own.
        self.requests = Counter("toxicity_requests", "Requests answered.", ("route", "status"), registry=registry)
        self.request_seconds = Histogram(
            "toxicity_request_seconds", "Time to answer a request.", ("route",), buckets=SECONDS, registry=registry
        )
        self.texts = Counter("toxicity_texts", "Texts scored.", registry=registry)
        self.tokens = Counter("toxicity_tokens", "Tokens scored, padding not counted.", registry=registry)
        self.batch_texts = Histogram(
            "toxicity_batch_texts", "Texts that were scored together.", buckets=TEXTS, registry=registry
        )
        self.batch_seconds = Histogram(
            "toxicity_batch_seconds", "Time to score a batch.", buckets=SECONDS, registry=registry
        )
        self.waiting = Gauge(
            "toxicity_waiting_texts", "Texts that wait to be scored.", multiprocess_mode="livesum", registry=registry
        )

    def add_batch(self, texts: int, tokens: int, seconds: float) -> None:
        """Count a batch that was scored."""
        self.texts.inc(texts)
        self.tokens.inc(tokens)
        self.batch_texts.observe(texts)
        self.batch_seconds.observe(seconds)

    def text(self) -> bytes:
        """The numbers in the text format of Prometheus."""
        registry = CollectorRegistry() if self._shared else self._registry
        if self._shared:
            MultiProcessCollector(registry, self._shared)
        return generate_latest(registry)

    def counted(self, app: ASGIApp) -> ASGIApp:
        """The same application, whose requests are counted and timed."""

        async def call(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                return await app(scope, receive, send)
            status, start = CLIENT_GONE, time.perf_counter()

            async def note_status(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = str(message["status"])
                await send(message)

            try:
                await app(scope, receive, note_status)
            finally:
                route = getattr(scope.get("route"), "path", "other")
                # Here, too, as only one of several workers is asked for the numbers of all.
                self.waiting.set(self.queue_length())
                self.requests.labels(route, status).inc()
                self.request_seconds.labels(route).observe(time.perf_counter() - start)

        return call


def routes(metrics: Metrics, batcher: Batcher) -> APIRouter:
    """The route of this module."""
    router = APIRouter()
    metrics.queue_length = lambda: batcher.waiting

    @router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def numbers() -> Response:
        """Numbers for Prometheus."""
        metrics.waiting.set(metrics.queue_length())
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return router


def _forget_dead_workers(folder: Path) -> None:
    """Let gauges of workers that were replaced count no longer."""
    for file in folder.glob("gauge_live*.db"):
        pid = int(file.stem.rpartition("_")[2])
        if not psutil.pid_exists(pid):
            mark_process_dead(pid, str(folder))
