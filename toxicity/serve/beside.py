"""The page beside the API: an application of its own, before which neither keys nor limits of the API stand."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

# What the page is doing may come to its end when the service stops; its streams of events have none.
STOP_SECONDS = 2


def with_page(app: ASGIApp, page: ASGIApp, api: Collection[str], stop: asyncio.Event) -> ASGIApp:
    """The same application, and `page` for all addresses that do not begin with one of the names in `api`.

    So that an address of the API that does not exist, or not for this method, is refused as such. Once `stop` is set,
    streams of the page end after `STOP_SECONDS`, as a browser that shows it would keep the service from stopping.
    """

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].strip("/").partition("/")[0] in api:
            await app(scope, receive, send)
            return
        started = ended = False

        async def note(message: Message) -> None:
            nonlocal started, ended
            started, ended = True, message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        request = asyncio.ensure_future(page(scope, receive, note))
        stopping = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait([request, stopping], return_when=asyncio.FIRST_COMPLETED)
            if not request.done():
                await asyncio.wait([request], timeout=STOP_SECONDS)
            if not request.done():
                request.cancel()
                await asyncio.wait([request])
            if not request.cancelled():
                request.result()  # raises what it raised
            elif started and not ended:
                await send({"type": "http.response.body", "body": b""})
        finally:
            stopping.cancel()
            request.cancel()

    return call
