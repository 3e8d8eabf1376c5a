"""The page beside the API: which addresses are the page's, who may use it, and where its files lie."""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from toxicity.core.run_folder import RunFolder
from toxicity.predict.explain.occlusion import occlusion
from toxicity.predict.explain.words import Word
from toxicity.serve.errors import ApiError, with_refusals
from toxicity.serve.limits import MAX_BODY_BYTES
from toxicity.serve.service import Service

# What a browser asks for on behalf of the page. Gradio has more routes, which nothing here needs: one fetches any
# address for the caller, others edit the page, or keep connections open when the service is to stop.
PATHS = re.compile(
    r"/|/(login|config|theme\.css|favicon\.ico|manifest\.json)/?|/(assets|static)/.+|"
    r"/gradio_api/(startup-events|upload|upload_progress|run/predict|queue/join|queue/data|cancel)/?|/gradio_api/file=/.+"
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


def mount_page(app: FastAPI, service: Service) -> None:
    """Have `app` answer with the page at `/`, and at the other addresses that it needs (`PATHS`).

    Where the service wants API keys, the page asks for one. Several workers cannot share it, as Gradio keeps what it
    knows of a visitor in one process: then there is none.
    """
    if service.settings.workers > 1:
        logger.info("There is no page with several workers: to try the model, start a service with one beside them.")
        return
    # The uploads and downloads of this process: Gradio deletes them one by one, and the folder goes with the process.
    files = tempfile.TemporaryDirectory(prefix="toxicity-page-")
    os.environ["GRADIO_TEMP_DIR"] = files.name
    # Only now, as it takes a second.
    import gradio as gr

    from toxicity.serve.page import build_page, launch_options

    def explain(text: str) -> list[Word]:
        return occlusion(text, lambda texts: service.batcher.score_in_thread(texts)[:, 0])

    page = build_page(service.described(), service.batcher.score_in_thread, explain, card_of(service.settings.model))
    login = (lambda name, key: service.keys.accept(key)) if service.keys.required else None
    told = "Any name will do; the password is an API key of this service."
    gr.mount_gradio_app(app, page, "/", auth=login, auth_message=told, **launch_options())
    # As a mount it would be within the limits of the API, and take what the API's routes refuse. Its start and end are
    # with the application's from now on.
    mounted = app.router.routes.pop().app
    lifespan = app.router.lifespan_context

    @asynccontextmanager
    async def with_files(app: FastAPI) -> AsyncIterator[Any]:
        with files:
            async with lifespan(app) as state:
                yield state

    app.router.lifespan_context = with_files
    app.add_middleware(with_page, page=with_refusals(mounted))


def with_page(app: ASGIApp, page: ASGIApp) -> ASGIApp:
    """The same application, with the page at its addresses."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not PATHS.fullmatch(scope["path"]):
            return await app(scope, receive, send)
        taken = 0

        async def receive_bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > MAX_BODY_BYTES:
                raise ApiError(413, f"The body is larger than {MAX_BODY_BYTES:,} bytes.")
            return message

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS]
            await send(message)

        # Gradio lets other sites read its answers; without this header it takes every call for one of its own page.
        headers = [(name, value) for name, value in scope["headers"] if name != b"origin"]
        return await page(scope | {"headers": headers}, receive_bounded, send_with_policy)

    return call


def card_of(model: str) -> str:
    """The card of a model in a folder, in Markdown without its metadata; empty if there is none."""
    card = RunFolder(model).card
    if not Path(model).is_dir() or not card.is_file():
        return ""
    return METADATA.sub("", card.read_text(encoding="utf-8", errors="replace"))
