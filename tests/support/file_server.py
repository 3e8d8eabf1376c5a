"""A server of files on this machine that fails as it is told: of its own files, of gs://, or in front of another."""

from __future__ import annotations

import json
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

Answer = tuple[int, dict[str, str], bytes]

TIME = "Mon, 01 Jan 2024 00:00:00 GMT"


@dataclass
class Fault:
    """What becomes of requests `times` times, from the first on that `pattern` matches, as `METHOD PATH RANGE`."""

    pattern: str
    times: int = 1
    status: int | None = None  # instead of the answer
    after_bytes: int | None = None  # of the answer, the connection breaks off
    missing: int = 0  # bytes at the end of the answer, whose length fits that
    seconds: float = 0.0  # of silence, in the middle of the answer


@dataclass
class FileServer:
    """`files` are contents by path, such as `/a.csv`; or those of gs://, as `/BUCKET/NAME`."""

    files: dict[str, bytes] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)  # as `METHOD PATH RANGE`
    headers: list[dict[str, str]] = field(default_factory=list)
    upstream: str | None = None  # the address of a server whose answers are handed on
    knows_ranges: bool = True
    tells_size: bool = True
    in_flight: int = 0
    most_in_flight: int = 0
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fail(self, pattern: str, times: int = 10**9, **what: float) -> None:
        self.faults.append(Fault(pattern, times, **what))

    def count(self, pattern: str) -> int:
        return sum(bool(re.search(pattern, request)) for request in self.requests)

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes = b"") -> Answer:
        if self.upstream is not None:
            return _forwarded(method, self.upstream + target, headers, body)
        url = urlsplit(target)
        path, query = unquote(url.path), parse_qs(url.query)
        if found := re.fullmatch(r"(/download|/upload)?/storage/v1/b/([^/]+)(?:/o(?:/(.+))?)?", path):
            if method == "POST":
                return self._taken_by_gs(found[2], body)
            if method == "DELETE":
                return (204 if self.files.pop(f"/{found[2]}/{found[3]}", None) is not None else 404), {}, b"{}"
            return self._answer_of_gs(found[2], found[3], query, is_content=bool(found[1]) or "alt" in query)
        return self._content(path)

    def _content(self, path: str) -> Answer:
        if path not in self.files:
            return 404, {}, b"nothing here"
        content = self.files[path]
        return 200, {"ETag": f'"{hash(content):x}"', "Last-Modified": TIME}, content

    def _answer_of_gs(self, bucket: str, name: str | None, query: dict[str, list[str]], is_content: bool) -> Answer:
        if name is not None and is_content:
            return self._content(f"/{bucket}/{name}")
        prefix = f"/{bucket}/{query.get('prefix', [''])[0]}"
        items = [self._object(bucket, path) for path in sorted(self.files) if path.startswith(prefix)]
        if "delimiter" in query:
            items = [item for item in items if "/" not in item["name"][len(prefix) - len(bucket) - 2 :]]
        if name is not None:
            items = [item for item in items if item["name"] == name]
            return (200, {}, json.dumps(items[0]).encode()) if items else (404, {}, b"{}")
        start = int(query.get("pageToken", ["0"])[0])
        page = {"kind": "storage#objects", "items": items[start : start + 1000]}
        if len(items) > start + 1000:
            page["nextPageToken"] = str(start + 1000)
        return 200, {"Content-Type": "application/json"}, json.dumps(page).encode()

    def _taken_by_gs(self, bucket: str, body: bytes) -> Answer:
        """An object that comes in two parts, its description and its content, each with headers in front."""
        _, description, content = body.split(b"\n\n", 2)
        name = json.loads(description.rpartition(b"\n--")[0])["name"]
        path = f"/{bucket}/{name}"
        self.files[path] = content.rpartition(b"\n--")[0]
        return 200, {"Content-Type": "application/json"}, json.dumps(self._object(bucket, path)).encode()

    def _object(self, bucket: str, path: str) -> dict[str, str]:
        digest, size = f"{hash(self.files[path]):x}", str(len(self.files[path]))
        return {"bucket": bucket, "name": path.split("/", 2)[2], "size": size, "etag": digest, "generation": "1"}


def _forwarded(method: str, url: str, headers: dict[str, str], body: bytes) -> Answer:
    kept = {name: value for name, value in headers.items() if name.lower() not in ("host", "connection")}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body or None, kept, method=method)) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as answer:
        return answer.code, dict(answer.headers), answer.read()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:  # a client that has had enough
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        server: FileServer = self.server.of
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asked = self.headers.get("Range", "")
        request = f"{self.command} {self.path} {asked}"
        with server.lock:
            server.requests.append(request)
            server.headers.append(dict(self.headers))
            server.in_flight += 1
            server.most_in_flight = max(server.most_in_flight, server.in_flight)
            fault = next((f for f in server.faults if f.times > 0 and re.search(f.pattern, request)), None)
            if fault is not None:
                fault.times -= 1
        try:
            self._send(server, fault, asked, body)
        finally:
            with server.lock:
                server.in_flight -= 1

    do_HEAD = do_POST = do_DELETE = do_GET

    def _send(self, server: FileServer, fault: Fault | None, asked: str, body: bytes) -> None:
        status, headers, content = server.answer(self.command, self.path, dict(self.headers), body)
        length = int(headers.get("Content-Length", len(content)))
        if fault is not None and fault.status is not None:
            status, headers, content = fault.status, {}, b"as asked for"
            length = len(content)
        elif status == 200 and server.knows_ranges and (part := re.fullmatch(r"bytes=(\d+)-(\d*)", asked)):
            start, end, whole = int(part[1]), int(part[2] or length - 1) + 1, length
            status, content = (206, content[start:end]) if start < whole else (416, b"")
            headers, length = headers | {"Content-Range": f"bytes {start}-{end - 1}/{whole}"}, len(content)
        if fault is not None and fault.missing:
            content = content[: -fault.missing]
            length -= fault.missing
        dropped = ("content-length", "transfer-encoding", "connection", "content-encoding")
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in dropped:
                self.send_header(name, value)
        if server.tells_size:
            self.send_header("Content-Length", str(length))
        else:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        if self.command == "HEAD":
            return
        half = len(content) // 2 if fault is None or fault.after_bytes is None else fault.after_bytes
        self.wfile.write(content[:half])
        if fault is not None and fault.after_bytes is not None:
            self.close_connection = True
            return
        self.wfile.flush()
        time.sleep(fault.seconds if fault is not None else 0)
        self.wfile.write(content[half:])


@contextmanager
def file_server(**options: object) -> Iterator[FileServer]:
    """Serve files on loopback."""
    served = FileServer(**options)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        http.of = served
        served.url = f"http://127.0.0.1:{http.server_port}"
        threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield served
        finally:
            http.shutdown()
