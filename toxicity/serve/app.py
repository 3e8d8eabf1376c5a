"""The application: its routes, and what stands before them."""

from __future__ import annotations

import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import FrameType

from fastapi import APIRouter, FastAPI
from fastapi.middleware.cors import CORSMiddleware

from toxicity.serve import metrics, scores
from toxicity.serve.errors import ApiError, ErrorAnswer, answer_in_one_form, with_refusals
from toxicity.serve.keys import HEADERS, with_keys
from toxicity.serve.limits import with_limits
from toxicity.serve.metrics import Metrics
from toxicity.serve.service import Service

# FastAPI would hand what users wrote, with its errors, to whatever OpenTelemetry is set up in the process.
NO_TELEMETRY = {"tracing": False, "metrics": False, "logs": False, "operation_spans": False}


def create_app(service: Service, numbers: Metrics | None = None) -> FastAPI:
    """The application that answers for `service`.

    Args:
        service: a loaded model and how it is served.
        numbers: counts what is done; the batcher of `service` tells it of batches.
    """
    numbers = numbers or Metrics()
    app = FastAPI(
        title="Toxicity of comments",
        description="Scores comments by the model that `GET /v1/model` describes.",
        # Their pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses={"default": {"model": ErrorAnswer}},
        telemetry=NO_TELEMETRY,
        lifespan=_lifespan,
    )
    answer_in_one_form(app)
    app.include_router(_health(app))
    app.include_router(metrics.routes(numbers, service.batcher))
    app.include_router(scores.routes(service))

    # From the inside out. Each is a function of the application, as classes of middleware with a request and a response
    # take longer than all of these together.
    app.add_middleware(with_limits)
    app.add_middleware(with_keys, keys=service.keys)
    app.add_middleware(with_refusals)
    if service.settings.cors_origins:
        headers = ["content-type", "authorization", *(name.decode() for name in HEADERS)]
        app.add_middleware(
            CORSMiddleware,
            allow_origins=service.settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=headers,
        )
    app.add_middleware(numbers.counted)
    return app


def _health(app: FastAPI) -> APIRouter:
    router = APIRouter()

    @router.get("/healthz")
    async def alive() -> dict[str, str]:
        """Whether the process is alive."""
        return {"status": "ok"}

    @router.get("/readyz")
    async def ready() -> dict[str, str]:
        """Whether requests are taken: the model is loaded, and the process was not told to stop."""
        if app.state.stopping:
            raise ApiError(503, "The service is stopping.")
        return {"status": "ok"}

    return router


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.stopping = False
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            _note_stop(app, number)
    yield


def _note_stop(app: FastAPI, number: signal.Signals) -> None:
    """Have the application know of a signal that the server handles, which finishes what is in flight."""
    handle = signal.getsignal(number)

    def note(number: int, frame: FrameType | None) -> None:
        app.state.stopping = True
        if callable(handle):
            handle(number, frame)

    signal.signal(number, note)
