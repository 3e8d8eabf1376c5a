"""The application: its routes, and what stands before them."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from types import FrameType

from fastapi import APIRouter, FastAPI
from fastapi.middleware.cors import CORSMiddleware

from toxicity.serve import discovery, metrics, moderations, perspective, scores
from toxicity.serve.beside import with_page
from toxicity.serve.errors import ApiError, ErrorAnswer, answer_in_one_form, log_failed_task, with_refusals
from toxicity.serve.keys import HEADERS, with_keys
from toxicity.serve.limits import with_limits
from toxicity.serve.metrics import Metrics
from toxicity.serve.service import Service

# FastAPI would hand what users wrote, with its errors, to whatever OpenTelemetry is set up in the process.
NO_TELEMETRY = {"tracing": False, "metrics": False, "logs": False, "operation_spans": False}


def create_app(service: Service, numbers: Metrics | None = None, page: FastAPI | None = None) -> FastAPI:
    """The application that answers for `service`.

    Args:
        service: a loaded model and how it is served.
        numbers: counts what is done; the batcher of `service` tells it of batches.
        page: what answers at all addresses that are not the API's, such as
            `gr.mount_gradio_app(FastAPI(), build_page(…), path="/")`. It lets in whom it wants, and has no limits.
    """
    numbers, stop = numbers or Metrics(), asyncio.Event()
    app = FastAPI(
        title="Toxicity of comments",
        description="Scores comments by the model that `GET /v1/model` describes.",
        # Their pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        strict_content_type=False,  # `with_limits` says which bodies are taken for JSON
        responses={"default": {"model": ErrorAnswer}},
        telemetry=NO_TELEMETRY,
        lifespan=partial(_lifespan, stop, page),
    )
    answer_in_one_form(app)
    routers = (
        _health(stop),
        metrics.routes(numbers, service.batcher),
        scores.routes(service),
        moderations.routes(service),
        perspective.routes(service),
        discovery.routes(),
    )
    for router in routers:
        app.include_router(router)

    # From the inside out. Each is a function of the application, as classes of middleware with a request and a response
    # take longer than all of these together.
    app.add_middleware(with_limits)
    app.add_middleware(with_keys, keys=service.keys)
    if page:
        addresses = [app.openapi_url, *(route.path for router in routers for route in router.routes)]
        app.add_middleware(with_page, page=page, api={address.split("/")[1] for address in addresses}, stop=stop)
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


def _health(stop: asyncio.Event) -> APIRouter:
    router = APIRouter()

    @router.get("/healthz")
    async def alive() -> dict[str, str]:
        """Whether the process is alive."""
        return {"status": "ok"}

    @router.get("/readyz")
    async def ready() -> dict[str, str]:
        """Whether requests are taken: the model is loaded, and the process was not told to stop."""
        if stop.is_set():
            raise ApiError(503, "The service is stopping.")
        return {"status": "ok"}

    return router


@asynccontextmanager
async def _lifespan(stop: asyncio.Event, page: FastAPI | None, app: FastAPI) -> AsyncIterator[None]:
    asyncio.get_running_loop().set_exception_handler(log_failed_task)
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            _note_stop(stop, number)
    async with page.router.lifespan_context(page) if page else nullcontext():
        yield


def _note_stop(stop: asyncio.Event, number: signal.Signals) -> None:
    """Have the application know of a signal that the server handles, which finishes what is in flight."""
    handle, loop = signal.getsignal(number), asyncio.get_running_loop()

    def note(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(stop.set)
        if callable(handle):
            handle(number, frame)

    signal.signal(number, note)
