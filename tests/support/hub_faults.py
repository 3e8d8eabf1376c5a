"""Faults of a Hub that tests ask for: refusals, silence, and connections that break off."""

from __future__ import annotations

import json
import os
import struct
from http.server import BaseHTTPRequestHandler
from socket import SO_LINGER, SOL_SOCKET
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from hub_server import HubServer


class Refusal(Exception):
    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class BrokenOff(Exception):
    pass


class FaultyHandler(BaseHTTPRequestHandler):
    """Breaks off or refuses the calls that `HubServer.fail` and the like ask for; `_answer` answers the others."""

    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> HubServer:
        return self.server.hub

    def log_message(self, *_: object) -> None:
        pass

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except BrokenOff:
            # Linger for no time: the client sees a reset, not a polite end.
            self.connection.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())
            self.close_connection = True
        except ConnectionError:
            self.close_connection = True

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_PUT = do_GET

    def _serve(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        call, fault = self.hub.receive(self.command, path)
        if fault and fault.silent:
            fault.healed.wait()
            raise BrokenOff
        if fault and fault.after_bytes is not None:
            call.body = self._read_body(fault.after_bytes)
            raise BrokenOff
        call.body = self._read_body()
        try:
            if fault and fault.status is not None:
                raise Refusal(fault.status, fault.message)
            with self.hub.lock:
                answer = self._answer(path, parse_qs(url.query), call.body)
        except Refusal as refusal:
            call.status = refusal.status
            headers = {"X-Error-Message": str(refusal)} if str(refusal).isprintable() else {}
            headers |= {"X-Error-Code": refusal.code} if refusal.code else {}
            headers |= {"Location": f"{self.hub.storage}/elsewhere"} if refusal.status == 307 else {}
            self._send(refusal.status, json.dumps({"error": str(refusal)}).encode(), headers)
            return
        if fault:
            raise BrokenOff
        status, content, headers = answer if isinstance(answer, tuple) else (200, answer, {})
        call.status = status
        self._send(status, content if isinstance(content, bytes) else json.dumps(content).encode(), headers)

    def _read_body(self, most: int | None = None) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
                if most is not None and len(body) >= most:
                    return body[:most]
            self.rfile.readline()
            return body
        size = int(self.headers.get("Content-Length", 0))
        return self.rfile.read(size if most is None else min(size, most))

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        headers = {"Content-Type": "application/json", "Content-Length": str(len(content))} | headers
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
