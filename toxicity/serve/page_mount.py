"""Mounts the page into the application, so that it takes what no route of the API does."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from toxicity.core.run_folder import RunFolder
from toxicity.serve.service import Service

# What a browser asks for on behalf of the page. Gradio has more routes, which nothing here needs: one fetches any
# address for the caller, others edit the page.
PATHS = re.compile(
    r"/|/(login|logout|config|theme\.css|favicon\.ico|robots\.txt|manifest\.json)/?|/(assets|static)/.+|"
    r"/gradio_api/(login_check|user|app_id|info|startup-events|upload|upload_progress|queue/join|queue/data|cancel|"
    r"reset|heartbeat/\w+)/?|/gradio_api/file=/.+"
)
# Gradio's page is made of scripts and styles in its HTML. With this, a browser asks no other machine for anything.
POLICY = (
    "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; form-action 'self'; base-uri 'self'; "
    "object-src 'none'; frame-ancestors 'self'"
)


def mount_page(app: FastAPI, service: Service, accepts_key: Callable[[str | None], bool] | None = None) -> None:
    """Have the page answer at `/`, and wherever no route of `app` does. Call it last.

    Args:
        app: the application.
        service: the model, and the batcher that scores, for the page as for everybody else.
        accepts_key: whether a key is valid; the page then asks for one. None: anybody may use it.
    """
    # The uploads and downloads of this process: Gradio deletes them one by one, and the folder goes with the process.
    files = tempfile.TemporaryDirectory(prefix="toxicity-page-")
    os.environ["GRADIO_TEMP_DIR"] = files.name
    app.state.page_files = files
    # Here, as it takes a second, when the model is loaded.
    import gradio as gr

    from toxicity.serve.page import build_page, launch_options

    page = build_page(service.described(), service.batcher.score_in_thread, _explain(service), card_of(service))
    login = None if accepts_key is None else lambda name, key: accepts_key(key)
    gr.mount_gradio_app(
        app, page, "/", auth=login, auth_message="Any name, and an API key as the password.", **launch_options()
    )
    # As a mount it would also take what an API route refuses, such as GET where only POST is right.
    mounted = app.router.routes.pop().app

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not PATHS.fullmatch(scope["path"]):
            raise HTTPException(404)

        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", POLICY.encode())]
            await send(message)

        # Gradio lets other sites read its answers; without this header it takes every call for one of its own page.
        headers = [(name, value) for name, value in scope["headers"] if name != b"origin"]
        await mounted(scope | {"headers": headers}, receive, with_policy)

    app.router.default = answer


def card_of(service: Service) -> str:
    """The card of a model in a folder, without its metadata; empty if there is none."""
    from huggingface_hub import ModelCard

    card = RunFolder(service.settings.model).card
    if not Path(service.settings.model).is_dir() or not card.is_file():
        return ""
    return ModelCard(card.read_text(encoding="utf-8", errors="replace"), ignore_metadata_errors=True).text


def _explain(service: Service):  # noqa: ANN202
    return None
