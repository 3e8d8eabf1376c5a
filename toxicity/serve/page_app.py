"""The page as an application: which addresses are its own, who may use it, and where its files lie."""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from toxicity.core.run_folder import RunFolder
from toxicity.predict.explain.occlusion import occlusion
from toxicity.predict.explain.words import Word
from toxicity.serve.app import NO_TELEMETRY
from toxicity.serve.errors import MESSAGES, ApiError, response_of
from toxicity.serve.limits import MAX_BODY_BYTES
from toxicity.serve.service import Service

# What a browser asks for on behalf of the page. Gradio has more routes, which nothing here needs: one fetches any
# address for the caller, others edit the page, or keep connections open when the service is to stop.
PATHS = re.compile(
    r"/|/(login|config|theme\.css|favicon\.ico|manifest\.json)/?|/(assets|static)/.+|"
    r"/gradio_api/(startup-events|upload|upload_progress|run/predict|queue/join|queue/data|cancel|reset)/?|"
    r"/gradio_api/file=/.+"
)
# The block of YAML that a card begins with.
METADATA = re.compile(r"\A---\s*\n.*?\n---\s*\n", re.DOTALL)
# Gradio's page is made of scripts and styles in its HTML. With this, a browser asks no other machine for anything.
POLICY = (
    "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; form-action 'self'; base-uri 'self'; "
    "object-src 'none'; frame-ancestors 'self'"
)
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]

logger = logging.getLogger(__name__)


def page_of(service: Service) -> FastAPI | None:
    """The application that shows the page at `/`, and answers at the other addresses that it needs (`PATHS`).

    Where the service wants API keys, the page asks for one. Several workers cannot share it, as Gradio keeps what it
    knows of a visitor in one process: then there is none.
    """
    if service.settings.workers > 1:
        logger.info("There is no page with several workers: to try the model, start a service with one beside them.")
        return None
    # The uploads and downloads of this process: Gradio deletes them one by one, and the folder goes with the process.
    files = tempfile.TemporaryDirectory(prefix="toxicity-page-")
    os.environ["GRADIO_TEMP_DIR"] = files.name
    # Only now, as it takes a second.
    import gradio as gr

    from toxicity.serve.page import build_page, launch_options

    @asynccontextmanager
    async def with_files(app: FastAPI) -> AsyncIterator[None]:
        with files:
            yield

    def explain(text: str) -> list[Word]:
        return occlusion(text, lambda texts: service.batcher.score_in_thread(texts)[:, 0])

    page = build_page(service.described(), service.batcher.score_in_thread, explain, card_of(service.settings.model))
    app = FastAPI(openapi_url=None, lifespan=with_files, telemetry=NO_TELEMETRY)
    gr.mount_gradio_app(
        app,
        page,
        "/",
        auth=(lambda name, key: service.keys.accept(key)) if service.keys.required else None,
        auth_message="Any name will do; the password is an API key of this service.",
        app_kwargs={"telemetry": NO_TELEMETRY},
        **launch_options(),
    )
    app.add_middleware(with_bounds)
    return app


def with_bounds(app: ASGIApp) -> ASGIApp:
    """Gradio's application at the addresses that the page needs, with bodies of bounded size, and for no other site."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await app(scope, receive, send)
        if not PATHS.fullmatch(scope["path"]):
            return await response_of(ApiError(404, MESSAGES[404]))(scope, receive, send)
        taken = 0

        async def receive_bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > MAX_BODY_BYTES:
                raise HTTPException(413)
            return message

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS]
            await send(message)

        # Gradio lets other sites read its answers; without this header it takes every call for one of its own page.
        headers = [(name, value) for name, value in scope["headers"] if name != b"origin"]
        return await app(scope | {"headers": headers}, receive_bounded, send_with_policy)

    return call


def card_of(model: str) -> str:
    """The card of a model in a folder, in Markdown without its metadata; empty if there is none."""
    card = RunFolder(model).card
    if not Path(model).is_dir() or not card.is_file():
        return ""
    return METADATA.sub("", card.read_text(encoding="utf-8", errors="replace"))
