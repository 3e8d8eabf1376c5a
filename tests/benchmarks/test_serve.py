"""The benchmark of the service: what its load sends, counts and prints, against a server of a few lines."""

import asyncio
import json
import sys
from collections import Counter

import numpy as np
import pytest

from benchmarks import serve
from benchmarks.serve import rate_of, summarise
from benchmarks.serve_load import Load, request_of
from toxicity.core.errors import RequestError

CONTRACT = {
    *("requests_per_second", "scores_per_second", "p50_ms_one_client", "p99_ms_loaded", "batching_gain", "errors"),
    "vs_scoring_loop",
}
TEXTS = [f"comment {number} “quoted”" for number in range(10)]


class Server:
    """Answers the text of number n with the probability n / 10; what it does to some requests is `faults`.

    Attributes:
        faults: number of a request, by arrival → `429`, `500`, `wrong` or `closed`.
        texts: how often each came.
    """

    def __init__(self, faults: dict[int, str]) -> None:
        self.faults, self.texts, self._arrived = faults, Counter(), 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            (text,) = json.loads(await reader.readexactly(length))["texts"]
            fault = self.faults.get(self._arrived, "200")
            self._arrived += 1
            self.texts[text] += 1
            if fault == "closed":
                writer.close()
                return
            probability = TEXTS.index(text) / 10 + (0.5 if fault == "wrong" else 0)
            body = json.dumps({"results": [{"probability": probability, "label": 0}]}, separators=(",", ":")).encode()
            status = "200" if fault == "wrong" else fault
            more = "Retry-After: 1\r\n" if fault == "429" else ""
            writer.write(f"HTTP/1.1 {status} X\r\n{more}Content-Length: {len(body)}\r\n\r\n".encode() + body[:9])
            await asyncio.sleep(0)
            writer.write(body[9:])


def result_of(faults, work):
    """What a load comes to; `work` gets the load and gives a coroutine."""

    async def run():
        fake = Server(faults)
        server = await asyncio.start_server(fake.answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        load = Load(port, [request_of(text) for text in TEXTS], np.arange(10) / 10)
        await asyncio.wait_for(work(load), 60)
        server.close()
        return fake, load.result(2.0)

    return asyncio.run(run())


LOADS = {
    "clients that wait": lambda load: load.closed_loop(4, 40, 3),
    "clients that do not": lambda load: load.open_loop(2_000, 40, 3),
}


@pytest.mark.parametrize("kind", LOADS)
def test_every_request_is_sent_and_its_answer_checked(kind):
    fake, result = result_of({}, LOADS[kind])
    assert fake.texts == dict.fromkeys(TEXTS, 4)
    assert (result["answered"], result["refused"], result["errors"]) == (40, 0, 0)
    assert result["largest_difference"] == 0
    assert 0 < result["p50_ms"] <= result["p99_ms"]


@pytest.mark.parametrize("kind", LOADS)
def test_what_goes_wrong_is_counted(kind):
    faults = {3: "429", 7: "500", 11: "wrong", 20: "closed", 30: "429"}
    _, result = result_of(faults, LOADS[kind])
    assert (result["answered"], result["refused"]) == (36, 2)
    assert result["errors"] == 3
    assert result["statuses"] == {"200": 36, "429": 2, "500": 1}
    assert result["largest_difference"] == pytest.approx(0.5)


def load_of(rate, p50, p99, answered=100, **more):
    zero = {"refused": 0, "errors": 0, "largest_difference": 0.0}
    return zero | {"seconds": answered / rate, "answered": answered, "p50_ms": p50, "p99_ms": p99} | more


RESULTS = {
    "loop": [{"seconds": 10.0, "answered": 4000}] * 3,
    "one": [{"seconds": 5.0, "answered": 1000}] * 3,
    "server": [load_of(rate, 100.0, 250.0, refused=refused) for rate, refused in ((300, 0), (100, 0), (320, 1))],
    "alone": [load_of(150, 300.0, 400.0)] * 3,
    "one_client": [load_of(120, 5.0, 30.0, errors=1)] + [load_of(120, 6.0, 30.0)] * 2,
    "overloaded": [load_of(250, 900.0, 2000.0, 500, refused=300, largest_difference=0.001)] * 3,
}


def test_the_keys_are_those_of_the_contract():
    found = summarise(RESULTS, [800.0, 810.0, 815.0])
    assert found.keys() >= CONTRACT
    assert found.pop("memory_mb") == [800.0, 810.0, 815.0]
    assert found == pytest.approx(
        {
            "requests_per_second": 300,
            "scores_per_second": 300,
            "vs_scoring_loop": 0.75,
            "batching_gain": 2,
            "vs_one_client": 2.5,
            "most_batching_gain": 2,
            "p50_ms_one_client": 6,
            "p99_ms_loaded": 250,
            "errors": 2,
            "memory_growth_mb": 15,
            "refused_share": 0.375,
            "p99_ms_overloaded": 2000,
            "accepted_per_second_overloaded": 250,
            "largest_difference": 0.001,
            "requests": 301,
        }
    )
    assert rate_of(RESULTS["loop"]) == 400


def test_the_table_has_a_row_for_each(capsys):
    serve.print_table(RESULTS, 64)
    shown = capsys.readouterr().out
    assert shown.count("\n") == len(RESULTS) + 3
    assert "the service, 64 clients" in shown
    assert "nan" not in shown


def test_without_a_model_it_says_how_to_make_one(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["serve", "--model", str(tmp_path / "none")])
    with pytest.raises(RequestError, match="run `make demo` first"):
        serve.main()


@pytest.fixture
def short(model_dir, monkeypatch, tmp_path):
    """The arguments of a run of seconds, with a model that nothing is converted for."""
    flags = {"model": model_dir, "texts": 20, "requests": 40, "clients": 4, "rounds": 1, "overload_seconds": 0.2}
    monkeypatch.setattr(
        sys, "argv", ["serve", *[str(part) for flag, value in flags.items() for part in (f"--{flag}", value)]]
    )
    monkeypatch.setenv("HF_ASSETS_CACHE", str(tmp_path / "assets"))


@pytest.mark.long
def test_all_of_it(short, capsys):
    serve.main()
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found.keys() >= CONTRACT
    assert (found["errors"], found["requests"]) == (0, 40)
    assert found["largest_difference"] < 0.01
