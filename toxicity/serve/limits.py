"""How much a client may ask for, and how long it may take: body, JSON, time."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress

from pydantic_core import from_json
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from toxicity.serve.errors import ApiError

# A comment of a megabyte has to reach its route, which says that it is too long.
MAX_BODY_BYTES = 8 * 2**20
# Of the bodies of all requests at a time.
MAX_HELD_BYTES = 64 * 2**20
# Of JSON in a body. Millions of wrong ones, each with an error of its own, would take gigabytes and a minute in which
# nobody else is answered.
MAX_VALUES = 10_000
MAX_TEXTS = 1_000
# As Perspective had it.
MAX_TEXT_BYTES = 20_480
BODY_SECONDS = 20
REQUEST_SECONDS = 30


def with_limits(app: ASGIApp) -> ASGIApp:
    """The same application, called only with whole bodies, which hold JSON, and stopped when nobody waits any more.

    Refuses bodies that are too large (413), come too slowly (408), are no JSON (415 by their type, 400), or for which
    there is no room (429), and gives requests up after `REQUEST_SECONDS` (504). A request whose client has gone is
    cancelled, so that its texts need not be scored.
    """
    held = 0

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal held
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        if _declared_bytes(scope) > MAX_BODY_BYTES:
            raise _too_large()
        body, more = bytearray(), True
        try:
            async with asyncio.timeout(BODY_SECONDS) as time:
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return
                    part, more = message.get("body", b""), message.get("more_body", False)
                    body += part
                    held += len(part)
                    if len(body) > MAX_BODY_BYTES:
                        raise _too_large()
                    if held > MAX_HELD_BYTES:
                        headers = _CLOSE | {"Retry-After": "1"}
                        raise ApiError(429, "Too many requests are being received.", headers=headers)
                time.reschedule(None)
                await _answer(app, _json_of(scope, body), scope, receive, send)
        except TimeoutError:
            if not time.expired():
                raise
            raise ApiError(408, "The body came too slowly.", headers=_CLOSE) from None
        finally:
            held -= len(body)

    return call


async def _answer(app: ASGIApp, body: bytes, scope: Scope, receive: Receive, send: Send) -> None:
    """Call the application with this body, until it has answered, the time is over, or the client has gone."""
    request, client_gone = asyncio.current_task(), asyncio.ensure_future(receive())
    client_gone.add_done_callback(lambda gone: None if gone.cancelled() else request.cancel())
    bodies = [body]

    async def receive_whole() -> Message:
        if bodies:
            return {"type": "http.request", "body": bodies.pop(), "more_body": False}
        return await asyncio.shield(client_gone)

    async def send_and_forget(message: Message) -> None:
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            # Servers report a client as gone, too, once it has been answered.
            client_gone.cancel()
        await send(message)

    try:
        async with asyncio.timeout(REQUEST_SECONDS) as time:
            await app(scope, receive_whole, send_and_forget)
    except TimeoutError:
        if not time.expired():
            raise
        raise ApiError(504, f"No answer within {REQUEST_SECONDS} seconds.") from None
    except asyncio.CancelledError:
        if not client_gone.done() or client_gone.cancelled():
            raise
        request.uncancel()
    finally:
        client_gone.cancel()


# What is left of a body is not read.
_CLOSE = {"Connection": "close"}


def _declared_bytes(scope: Scope) -> int:
    return next((int(value) for name, value in scope["headers"] if name == b"content-length" and value.isdigit()), 0)


def _too_large() -> ApiError:
    return ApiError(413, f"The body is larger than {MAX_BODY_BYTES:,} bytes.", headers=_CLOSE)


def _json_of(scope: Scope, body: bytearray) -> bytes:
    """A body that is JSON, in which names that stand without quotes have them.

    Refused is what is no JSON, and what the parser of the routes takes for it, too: `NaN`, lone surrogates, other
    encodings than UTF-8, and so many levels that it would fail. So are more than `MAX_VALUES`.
    """
    if not body:
        return b""
    headers = dict(scope["headers"])
    kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
    # Much code for Perspective names no type. A browser need not either, and then asks nobody before it sends what a
    # page of any site wants it to, but names that site.
    unnamed = b"content-type" not in headers and b"origin" not in headers
    if kind != b"application/json" and not unnamed:
        raise ApiError(415, "Send the body as `Content-Type: application/json`.")
    if _most_values(body) > MAX_VALUES and _most_values(_STRING.sub(b"", body)) > MAX_VALUES:
        raise ApiError(400, f"The body holds more than {MAX_VALUES:,} values.")
    try:
        from_json(body, allow_inf_nan=False)
    except ValueError as error:
        # As in the example for curl of Perspective's documentation, which much code was made from.
        quoted = _NAME.sub(lambda found: b'"%b"' % found[1] if found[1] else found[0], body)
        with suppress(ValueError):
            from_json(quoted, allow_inf_nan=False)
            return quoted
        # The parser names what it expected and where, never what stands there.
        raise ApiError(400, f"The body is not valid JSON: {error}.") from None
    return bytes(body)


# One without an end goes to the end of the body.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
# A name without quotes; what has them is found, too, so that nothing is found in it.
_NAME = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|\b([A-Za-z_]\w*+)(?=\s*+:)', re.DOTALL)


def _most_values(body: bytes | bytearray) -> int:
    """The most values that the JSON of a body has: each but the first follows one of these, which texts hold, too."""
    return 1 + sum(map(body.count, (b",", b"[", b"{")))
