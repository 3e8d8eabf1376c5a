"""Load for `benchmarks.serve`: clients that keep their connections and know what the answers must be.

    python -m benchmarks.serve_load PORT FOLDER --clients 64 --requests 20000     # each waits for its answer
    python -m benchmarks.serve_load PORT FOLDER --requests 10000 --rate 800       # requests come as they like

It takes little of the processor, which it shares with the service: requests are bytes that were made before the clock
starts, and of an answer the status and the probability are read. `FOLDER` holds `texts.json` and `expected.npy`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

# In bf16 a score differs by its rounding in the company of other texts.
TOLERANCE = 0.02
# Connections that clients that do not wait may open; a server that needs more has lost requests.
MOST_CONNECTIONS = 4_000
IDLE_SECONDS = 3
FIELD = b'"probability":'


class Client(asyncio.Protocol):
    """A connection: sends one request after the other, and reads its answer."""

    def __init__(self) -> None:
        self._buffer = b""
        self.answer: asyncio.Future[bytes] | None = None
        self.used = time.perf_counter()  # when its last answer came

    def connection_made(self, transport: asyncio.Transport) -> None:  # noqa: D102
        self._transport = transport

    def send(self, request: bytes) -> asyncio.Future[bytes]:
        """Send a request; the future is its answer, head and body."""
        self.answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self.answer

    def data_received(self, data: bytes) -> None:  # noqa: D102
        self._buffer = self._buffer + data if self._buffer else data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        start = self._buffer.lower().find(b"content-length:", 0, head) + len(b"content-length:")
        length = int(self._buffer[start : self._buffer.find(b"\r\n", start)])
        if len(self._buffer) >= head + 4 + length and self.answer:
            answer, self._buffer, found = self.answer, b"", self._buffer
            self.used = time.perf_counter()
            answer.set_result(found)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: D102
        if self.answer and not self.answer.done():
            self.answer.set_exception(error or ConnectionError("closed"))

    def close(self) -> None:
        """End the connection."""
        self._transport.close()


class Load:
    """Sends requests, one text each, and counts what comes back.

    Args:
        port: of the service, on loopback.
        requests: as they go over the line.
        expected: the probability that each must be answered with, within `TOLERANCE`.
    """

    def __init__(self, port: int, requests: Sequence[bytes], expected: np.ndarray) -> None:
        self._port, self._requests, self._expected = port, requests, expected.tolist()
        self.milliseconds: list[float] = []  # of answers with a score
        self.statuses: Counter[str] = Counter()
        self.wrong = self.failed = self.without_retry_after = 0
        self.largest_difference = 0.0

    async def connect(self) -> Client:
        """A new connection."""
        return (await asyncio.get_running_loop().create_connection(Client, "127.0.0.1", self._port))[1]

    async def send(self, client: Client, number: int, due: float) -> bool:
        """Send a request and check its answer; `due`: when it was to be sent. Returns whether there was an answer."""
        number %= len(self._requests)
        try:
            answer = await client.send(self._requests[number])
        except OSError:
            self.failed += 1
            return False
        elapsed = time.perf_counter() - due
        status = answer[9:12].decode()
        self.statuses[status] += 1
        if status == "429":
            self.without_retry_after += b"\r\nretry-after: " not in answer.lower()
        elif status == "200":
            self.milliseconds.append(1000 * elapsed)
            start = answer.index(FIELD) + len(FIELD)
            difference = abs(float(answer[start:].split(b",", 1)[0]) - self._expected[number])
            self.largest_difference = max(self.largest_difference, difference)
            self.wrong += difference > TOLERANCE
        return True

    async def closed_loop(self, clients: int, requests: int, first: int) -> None:
        """So many clients, each of which sends its next request when the last one was answered."""
        numbers = iter(range(first, first + requests))

        async def run(client: Client) -> None:
            for number in numbers:
                if not await self.send(client, number, time.perf_counter()):
                    client = await self.connect()
            client.close()

        await asyncio.gather(*[run(client) for client in [await self.connect() for _ in range(clients)]])

    async def open_loop(self, rate: float, requests: int, first: int) -> None:
        """Requests at random times, so many a second on average, whether others were answered or not."""
        gaps = np.random.default_rng(first).exponential(1 / rate, requests)
        free: deque[Client] = deque()
        running: set[asyncio.Task[None]] = set()

        async def run(number: int, due: float) -> None:
            # A server closes those that are idle.
            while free and free[0].used < time.perf_counter() - IDLE_SECONDS:
                free.popleft().close()
            try:
                client = free.pop() if free else await self.connect()
            except OSError:
                self.failed += 1
                return
            if await self.send(client, number, due):
                free.append(client)

        started = time.perf_counter()
        for number, due in enumerate((started + np.cumsum(gaps)).tolist(), first):
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            if len(running) >= MOST_CONNECTIONS:
                self.failed += 1
                continue
            task = asyncio.create_task(run(number, due))
            running.add(task)
            task.add_done_callback(running.discard)
        await asyncio.gather(*running)
        for client in free:
            client.close()

    def result(self, seconds: float) -> dict[str, Any]:
        """What is printed."""
        p50, p99 = np.percentile(self.milliseconds, (50, 99)) if self.milliseconds else (None, None)
        refused = self.statuses["429"]
        answered = self.statuses["200"]
        errors = self.failed + self.wrong + self.without_retry_after + self.statuses.total() - answered - refused
        return {
            "seconds": seconds,
            "answered": answered,
            "refused": refused,
            "errors": errors,
            "statuses": dict(self.statuses),
            "largest_difference": self.largest_difference,
            "p50_ms": p50,
            "p99_ms": p99,
            "processor_seconds": time.process_time(),
        }


def request_of(text: str) -> bytes:
    """`POST /v1/score` of one text, as it goes over the line."""
    body = json.dumps({"texts": [text]}).encode()
    head = ["POST /v1/score HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
    return "\r\n".join([*head, f"Content-Length: {len(body)}", "", ""]).encode() + body


def main() -> None:
    """Send the load, and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--requests", type=int, required=True)
    parser.add_argument("--first", type=int, default=0, help="number of the first text")
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--rate", type=float, help="requests a second, by clients that do not wait")
    arguments = parser.parse_args()
    import uvloop

    texts = json.loads((arguments.folder / "texts.json").read_text())
    load = Load(arguments.port, [request_of(text) for text in texts], np.load(arguments.folder / "expected.npy"))
    if arguments.rate:
        work = load.open_loop(arguments.rate, arguments.requests, arguments.first)
    else:
        work = load.closed_loop(arguments.clients, arguments.requests, arguments.first)
    before, started = time.process_time(), time.perf_counter()
    uvloop.run(work)
    result = load.result(time.perf_counter() - started)
    print(json.dumps(result | {"processor_seconds": result["processor_seconds"] - before}))


if __name__ == "__main__":
    main()
