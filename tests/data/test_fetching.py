"""Files of web servers and of the Hub in parts, over lines that break and from servers that fail."""

import itertools
import random
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from contextvars import copy_context

import fsspec
import pytest
from builders import write_comments
from file_server import file_server

from toxicity.core.errors import RequestError
from toxicity.data import fetching, storage
from toxicity.data.addresses import list_data_files
from toxicity.data.copies import local_copies, local_copy
from toxicity.data.fetching import Left, fetching_ends_with_block, retried
from toxicity.predict.shards import list_shards

CONTENT = random.Random(0).randbytes(100_001)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(fetching, "PART_BYTES", 10_000)
    monkeypatch.setattr(fetching, "SMALLEST_PART", 500)


def fetched(file):
    with local_copy(file) as path:
        return path.read_bytes()


def test_parts_are_fetched_side_by_side(server):
    server.files["/a.csv"] = CONTENT
    (file,) = list_data_files(f"{server.url}/a.csv")
    server.fail("bytes=", seconds=0.05)
    assert fetched(file) == CONTENT
    assert server.count("GET") == 11
    assert 2 <= server.most_in_flight <= fetching.PARTS_AT_ONCE


@pytest.mark.parametrize(
    ("fault", "most_requests"),
    [
        ({"times": 1, "status": 500}, 12),
        ({"times": 5, "status": 503}, 16),
        ({"times": 1, "status": 429}, 12),
        ({"times": 1, "after_bytes": 0}, 12),
        ({"times": 3, "after_bytes": 300}, 20),
        ({"after_bytes": 3000}, 20),  # never a whole part
        ({"times": 1, "missing": 10}, 12),  # shorter, and with a length that fits
        ({"times": 1, "missing": 10_000}, 12),
        ({"times": 3, "missing": 4000}, 15),
    ],
)
def test_a_line_that_breaks_is_gone_on_with(server, fault, most_requests):
    server.files["/a.csv"] = CONTENT
    (file,) = list_data_files(f"{server.url}/a.csv")
    server.fail("bytes=(3|4)", **({"times": 10**9} | fault))
    assert fetched(file) == CONTENT
    assert server.count("GET") <= most_requests + server.count("bytes=(3|4)")
    assert server.count("bytes=50000-59999") == 1, "what came is not fetched again"


def test_a_silent_server_is_given_up(server, monkeypatch):
    server.files["/a.csv"] = CONTENT
    monkeypatch.setattr(storage, "SILENCE_SECONDS", 0.2)
    for protocol in ("http", "https"):
        monkeypatch.setitem(fsspec.config.conf, protocol, {})
    storage.bound_waits.cache_clear()
    (file,) = list_data_files(f"{server.url}/a.csv")
    server.fail("bytes=3", times=1, seconds=10)
    assert fetched(file) == CONTENT
    storage.bound_waits.cache_clear()


@pytest.mark.parametrize(("status", "tries"), [(403, 1), (404, 1), (401, 1), (503, 7), (500, 7)])
def test_what_does_not_get_better_is_given_up(server, status, tries, caplog):
    server.files["/a.csv"] = CONTENT
    (file,) = list_data_files(f"{server.url}/a.csv?token=hidden".replace("http://", "http://me:hush@"))
    server.fail("bytes=30000", status=status)
    with pytest.raises(RequestError, match=r"^cannot reach http://127.*/a.csv: .*Check the address") as refused:
        fetched(file)
    assert server.count("GET.*bytes=30000") == tries
    told = f"{refused.value} {caplog.text}"
    assert "hush" not in told
    assert "hidden" not in told
    assert caplog.text.count("Trying again in") == tries - 1


@pytest.mark.parametrize("after_bytes", [None, 50_000])
@pytest.mark.parametrize("tells_size", [True, False])
def test_a_server_that_knows_no_ranges(server, tells_size, after_bytes):
    server.files["/a.csv"] = CONTENT
    server.knows_ranges, server.tells_size = False, tells_size
    (file,) = list_data_files(f"{server.url}/a.csv")
    assert file.bytes == (len(CONTENT) if tells_size else None)
    if after_bytes and tells_size:
        server.fail("GET /a.csv $", times=2, after_bytes=after_bytes)
    assert fetched(file) == CONTENT


@pytest.mark.parametrize(
    ("told", "message"), [(0, None), (50, "of 50 bytes"), (95_000, "of 95,000"), (10**6, "bytes came")]
)
def test_a_server_that_tells_a_wrong_size(server, told, message):
    server.files["/a.csv"] = CONTENT
    answer = server.answer

    def telling(method, *request):
        status, headers, content = answer(method, *request)
        return status, headers | ({"Content-Length": str(told)} if method == "HEAD" else {}), content

    server.answer = telling
    (file,) = list_data_files(f"{server.url}/a.csv")
    with pytest.raises(RequestError, match=message) if message else nullcontext():
        assert fetched(file) == CONTENT


@pytest.mark.parametrize("other", [CONTENT[:-1] + b"?", CONTENT[:50_000], CONTENT + b"more", b""])
def test_a_file_that_changes_meanwhile(server, other):
    server.files["/a.csv"] = CONTENT
    (file,) = list_data_files(f"{server.url}/a.csv")
    answer = server.answer

    def changing(method, target, headers, body):
        if "bytes=70000-" in headers.get("Range", ""):
            server.files["/a.csv"] = other
        return answer(method, target, headers)

    server.answer = changing
    with pytest.raises(RequestError, match=r"/a.csv was changed since it was listed: run this again.$"):
        fetched(file)


def test_a_version_that_is_another_one_in_each_answer_says_nothing(server):
    server.files["/a.csv"] = CONTENT
    answer, answers = server.answer, itertools.count()

    def at_this_time(*request):
        status, headers, content = answer(*request)
        return status, headers | {"ETag": f'"{next(answers)}"'}, content

    server.answer = at_this_time
    (file,) = list_data_files(f"{server.url}/a.csv")
    assert fetched(file) == CONTENT
    server.files["/a.csv"] += b"more"
    with pytest.raises(RequestError, match="was changed"):
        fetched(file)


def test_a_page_instead_of_a_part_is_no_part(server):
    server.files["/a.csv"] = CONTENT
    (file,) = list_data_files(f"{server.url}/a.csv")
    server.fail("bytes=30000-", times=2, status=200)
    assert fetched(file) == CONTENT


def test_a_name_is_asked_for_again_and_its_refusal_told(server):
    server.files["/a.csv"] = CONTENT
    server.fail("/a.csv", times=2, status=503)  # HEAD, and then GET
    (file,) = list_data_files(f"{server.url}/a.csv")
    assert file.bytes == len(CONTENT)
    for status, message in ((403, "cannot reach .*403"), (503, "cannot reach .*503"), (404, "there is no file")):
        server.faults.clear()
        server.fail("/a.csv", status=status)
        with pytest.raises(RequestError, match=message):
            list_data_files(f"{server.url}/a.csv")


def test_a_folder_on_a_web_server(server):
    for number in range(20):
        server.files[f"/data/{number:02}.csv"] = b"text\n" + b"x" * number
    links = "".join(f'<a href="{number:02}.csv">' for number in range(20))
    server.files["/data/"] = links.encode()
    answer = server.answer

    def as_page(method, target, headers, body):
        status, told, content = answer(method, target, headers)
        return status, told | ({"Content-Type": "text/html"} if target.endswith("/") else {}), content

    server.answer = as_page
    files = list_data_files(f"{server.url}/data/")
    assert [(file.name, file.bytes) for file in files] == [(f"{n:02}.csv", 5 + n) for n in range(20)]
    server.requests.clear()
    with local_copies(files) as paths:
        assert [path.stat().st_size for path in paths] == [file.bytes for file in files]
    assert not any(path.exists() for path in paths)


def test_the_first_that_fails_ends_the_others(server, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    server.files["/a.csv"] = random.Random(1).randbytes(2_000_000)
    (file,) = list_data_files(f"{server.url}/a.csv")
    server.fail("bytes=0-", status=403)
    server.fail("bytes=", seconds=0.02)
    with pytest.raises(RequestError):
        fetched(file)
    assert server.count("GET") < 50, "of 200"
    assert not list(tmp_path.iterdir()), "nothing is left on the disk"


def test_there_are_waits_between_tries(monkeypatch):
    monkeypatch.setattr(fetching, "WAITS", (1.0, 2.0, 4.0))
    waited = []

    def fail():
        raise ConnectionError("dead")

    with pytest.raises(ConnectionError):
        retried(fail, "http://host/a.csv", pause=waited.append)
    assert [most / 2 <= seconds <= most for seconds, most in zip(waited, (1, 2, 4), strict=True)] == [True] * 3
    begin = time.monotonic()
    with pytest.raises(ConnectionError):
        retried(fail, "http://host/a.csv", pause=lambda _: True)
    assert time.monotonic() - begin < 1, "whoever waits can be stopped"


def test_a_file_of_the_hub_in_parts(hub, tmp_path, monkeypatch):
    from huggingface_hub import constants

    hub.blobs["train.csv"] = content = write_comments(tmp_path / "train.csv", 500).read_bytes()
    repo = hub.make_repo("tester/comments")
    repo.commit("main", {"train.csv": ("regular", "train.csv")})
    with file_server(upstream=hub.endpoint) as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        fsspec.get_filesystem_class("hf").clear_instance_cache()
        (shard,) = list_shards(["hf://tester/comments/train.csv"])
        server.fail("bytes=10000-", times=1, status=503)
        server.fail("bytes=20000-", times=2, after_bytes=1000)
        server.fail("bytes=0-", times=1, missing=10)
        assert fetched(shard) == content
        assert server.count("GET.*bytes=") >= len(content) // 10_000
        assert server.count("/tree/") <= 1, "of the folder, once"
        hub.blobs["other.csv"] = content[:-2] + b"?\n"
        repo.commit("main", {"train.csv": ("regular", "other.csv")})
        with pytest.raises(RequestError, match="^hf://tester/comments/train.csv was changed since it was listed"):
            fetched(shard)
        server.fail("/resolve/", status=403)
        with pytest.raises(RequestError, match="^cannot reach hf://tester/comments/train.csv: .*403"):
            fetched(shard)
    fsspec.get_filesystem_class("hf").clear_instance_cache()


def test_a_file_that_nobody_waits_for_any_more_is_left(server):
    server.files["/a.csv"] = random.Random(1).randbytes(2_000_000)
    (file,) = list_data_files(f"{server.url}/a.csv")
    server.fail("bytes=", seconds=0.1)
    with ThreadPoolExecutor(1) as pool, fetching_ends_with_block():
        fetching_it = pool.submit(copy_context().run, fetched, file)
        while not server.count("bytes="):
            time.sleep(0.01)
    assert isinstance(fetching_it.exception(), Left)
    assert server.count("bytes=") < 50, "of 200"
    assert fetched(file) == server.files["/a.csv"], "only in that block"
