"""HTTP as uvicorn speaks it, with what it leaves open: how long and how large the head of a request may be."""

from __future__ import annotations

import json
from asyncio import TimerHandle
from collections import deque
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from toxicity.serve.errors import ApiError

HEAD_SECONDS = 10
MAX_HEAD_BYTES = 64 * 2**10


class HttpProtocol(HttpToolsProtocol):
    """A connection that is closed when the head of a request is not there in time, or is too large.

    What comes after an answer that did not wait for the whole body is taken for such a head, so that nobody can keep a
    connection open by sending on and on.
    """

    _timer: TimerHandle | None = None
    _head_bytes = 0

    def connection_made(self, transport: object) -> None:
        """Wait for the first request."""
        super().connection_made(transport)
        # Requests that are not answered yet, as clients may send some before that.
        self._unanswered: deque[RequestResponseCycle] = deque()
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._head_is_complete()
        self._disconnect_all()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on."""
        super().data_received(data)
        if (self.cycle is None or self.cycle.response_complete) and not self.transport.is_closing():
            self._expect_head()
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(ApiError(431, f"The head of the request is larger than {MAX_HEAD_BYTES:,} bytes."))

    def on_headers_complete(self) -> None:
        """Begin with a request."""
        self._head_is_complete()
        super().on_headers_complete()
        while self._unanswered and self._unanswered[0].response_complete:
            self._unanswered.popleft()
        self._unanswered.append(self.cycle)

    def send_400_response(self, msg: str) -> None:
        """Answer to what is no HTTP."""
        self._refuse(ApiError(400, msg))

    def _disconnect_all(self) -> None:
        """Tell all that answer that the client has gone; uvicorn tells the request that came last, and no other."""
        for cycle in self._unanswered:
            if not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()

    def _expect_head(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _head_is_complete(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._head_bytes = 0

    def _give_up(self) -> None:
        if self._head_bytes:
            self._refuse(ApiError(408, "The head of the request came too slowly."))
        else:
            self.transport.close()

    def _refuse(self, error: ApiError) -> None:
        body = json.dumps(error.to_json()).encode()
        head = f"HTTP/1.1 {error.code} {HTTPStatus(error.code).phrase}\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        self._disconnect_all()
        self.transport.write(head.encode() + body)
        self.transport.close()
