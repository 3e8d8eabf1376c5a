"""The page beside the API: its addresses, who may use it, and what it leaves behind."""

import gc
import os
import re
import tempfile
import threading
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from serving import error_of, service_of

from toxicity.serve.app import create_app
from toxicity.serve.errors import ApiError
from toxicity.serve.page_app import PATHS, card_of, page_of

gradio = pytest.importorskip("gradio", reason="gradio is not installed")
SECRET = "my secret words"


@pytest.fixture
def visitor(scorer, monkeypatch):
    """Makes clients of an application with the page."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")

    def make(**settings):
        service = service_of(scorer, **settings)
        return TestClient(create_app(service, page=page_of(service)))

    return make


@pytest.fixture
def keys(tmp_path):
    (tmp_path / "keys.txt").write_text("right-key\n")
    return tmp_path / "keys.txt"


def event_of(client, name, data, session="s"):
    """The messages of an event, which is told by the name of its function."""
    config = client.get("/config").json()
    number = next(each["id"] for each in config["dependencies"] if each["api_name"] == name)
    joined = client.post("/gradio_api/queue/join", json={"data": data, "fn_index": number, "session_hash": session})
    assert joined.status_code == 200, joined.text
    return client.get(f"/gradio_api/queue/data?session_hash={session}").text


def test_the_page_stands_beside_the_api(visitor):
    with visitor() as client:
        page = client.get("/")
        assert "gradio_config" in page.text
        assert "frame-ancestors 'self'" in page.headers["content-security-policy"]
        assert client.get("/v1/model").json()["labels"] == ["toxic", "insult", "threat"]
        assert client.get("/healthz").json() == {"status": "ok"}
        error_of(client.get("/v1/score"), 405, "INVALID_ARGUMENT")
        error_of(client.get("/nothing"), 404, "NOT_FOUND")


def test_no_route_of_the_api_is_one_of_the_page(service):
    paths = create_app(service).openapi()["paths"]
    assert "/v1/score" in paths
    assert not [path for path in (*paths, "/openapi.json") if PATHS.fullmatch(path)]


@pytest.mark.parametrize(
    "path",
    [
        *("/gradio_api/file=http://192.0.2.1/x", "/gradio_api/proxy=https://x.hf.space/y", "/gradio_api/info"),
        *("/gradio_api/vibe-code/", "/monitoring", "/gradio_api/heartbeat/x", "/gradio_api/runs", "/docs"),
    ],
)
def test_what_else_gradio_answers_is_not_there(visitor, path):
    with visitor() as client:
        error_of(client.get(path), 404, "NOT_FOUND")


@pytest.mark.parametrize("path", ["/etc/hostname", str(Path(__file__)), str(Path.cwd() / "pyproject.toml")])
def test_no_file_of_the_machine_can_be_had(visitor, path):
    with visitor() as client:
        assert client.get(f"/gradio_api/file={path}").status_code in (403, 404)


@pytest.mark.parametrize("event", ["one", "driving", "uploaded", "scored"])
@pytest.mark.parametrize(
    "of", ["{path}", "{uploads}/../{name}/keys.txt", "keys.txt", "http://192.0.2.1/x", "{uploads}"]
)
def test_no_file_is_read_or_fetched_that_was_not_uploaded(visitor, tmp_path, monkeypatch, event, of):
    (tmp_path / "keys.txt").write_text(f"text\n{SECRET}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path.parent))
    with visitor() as client:
        uploads = Path(os.environ["GRADIO_TEMP_DIR"])
        path = of.format(path=tmp_path / "keys.txt", uploads=uploads, name=tmp_path.name)
        file = {"path": path, "meta": {"_type": "gradio.FileData"}, "url": path, "orig_name": "a.csv"}
        for number, first in enumerate([file, [file], {"a": [file]}]):
            messages = event_of(client, event, [first, "", None, True] if event == "scored" else [first], str(number))
            assert SECRET not in messages
            assert re.search(r'"success":\s*false', messages)
        assert not [each for each in uploads.rglob("*") if each.is_file()]


def test_a_file_that_was_uploaded_is_read(visitor):
    with visitor() as client:
        (path,) = client.post("/gradio_api/upload", files={"files": ("a.csv", "text\nthank you\n")}).json()
        file = {"path": path, "meta": {"_type": "gradio.FileData"}}
        assert "Scored 1 comments" in event_of(client, "scored", [file, "", None, False])


def test_other_sites_may_not_read_the_page(visitor):
    with visitor() as client:
        answer = client.get("/config", headers={"Origin": "http://192.0.2.1"})
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_uploads_are_private_and_go_with_the_process(visitor):
    with visitor() as client:
        (path,) = client.post("/gradio_api/upload", files={"files": ("a.csv", SECRET)}).json()
        folder = Path(path).parents[1]
        assert folder.name.startswith("toxicity-page-")
        assert folder.stat().st_mode & 0o077 == 0
        assert client.get(f"/gradio_api/file={path}").text == SECRET
    assert not folder.exists(), "deleted at the end"


def test_uploads_and_bodies_are_bounded(visitor):
    with visitor() as client:
        large = client.post("/gradio_api/upload", files={"files": ("a.csv", b"x" * (6 * 2**20))})
        assert large.status_code == 413
        assert client.post("/gradio_api/queue/join", content=b"x" * (9 * 2**20)).status_code in (400, 413)


def test_a_key_is_needed_for_all_that_scores(visitor, keys):
    with visitor(api_keys=keys) as client:
        assert "Any name will do" in client.get("/").text
        for path in ("/config", "/gradio_api/queue/data?session_hash=s", "/gradio_api/file=/etc/hostname"):
            assert client.get(path).status_code == 401, path
        body = {"data": [SECRET], "fn_index": 0, "session_hash": "s"}
        for path in ("/gradio_api/queue/join", "/gradio_api/run/predict"):
            assert client.post(path, json=body).status_code == 401, path
        assert client.post("/gradio_api/upload", files={"files": ("a.csv", "x")}).status_code == 401
        assert client.post("/login", data={"username": "me", "password": "wrong"}).status_code == 400
        assert client.post("/login", data={"username": "me", "password": "right-key"}).status_code == 200
        assert client.get("/config").status_code == 200
        error_of(client.get("/v1/model"), 403, "PERMISSION_DENIED")


def test_what_fails_is_told_in_a_sentence_and_nothing_typed_is_logged(visitor, capfd, caplog, monkeypatch):
    with visitor() as client:
        assert "Type a comment first." in event_of(client, "one", [" "], "a")
        # Not of the form that the page sends.
        for number, data in enumerate([[{"a": SECRET}], [SECRET, SECRET], [[SECRET]]]):
            event_of(client, "scored", data, f"b{number}")
            event_of(client, "uploaded", data, f"c{number}")
        out, err = capfd.readouterr()
    assert SECRET not in out + err + caplog.text
    assert "Traceback" not in out + err + caplog.text


def test_what_was_typed_is_not_kept(visitor):
    from gradio.state_holder import StateHolder

    with visitor() as client:
        for number in range(80):
            event_of(client, "one", [f"{SECRET} {number}"], f"s{number}")
        event_of(client, "scored", [None, f"text\n{SECRET}", None, False], "table")
        of_all = [each.session_data for each in gc.get_objects() if isinstance(each, StateHolder)]
        (sessions,) = (each for each in of_all if "table" in each)
        assert SECRET not in str([session.config_values for session in sessions.values()])
        assert len(sessions) < 70


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (
            ApiError(429, "full", headers={"Retry-After": "7"}),
            "Many comments are waiting to be scored. Try again in 7 s.",
        ),
        (ValueError(f"{SECRET} in /home/me"), "That did not work, through a fault of the server."),
    ],
)
def test_a_failure_to_score_is_a_sentence(visitor, monkeypatch, capfd, failure, told):
    from toxicity.serve.batcher import Batcher

    def fail(self, texts):
        raise failure

    monkeypatch.setattr(Batcher, "score_in_thread", fail)
    with visitor() as client:
        messages = event_of(client, "one", [SECRET])
        assert told in messages
        assert SECRET not in messages
        assert "/home" not in messages
    assert SECRET not in "".join(capfd.readouterr())


def test_the_page_scores_through_the_batcher(visitor, monkeypatch):
    from toxicity.serve.batcher import Batcher

    threads, score = [], Batcher.score_in_thread

    def note(self, texts):
        threads.append((threading.current_thread().name, [*texts]))
        return score(self, texts)

    monkeypatch.setattr(Batcher, "score_in_thread", note)
    with visitor() as client:
        assert re.search(r'"success":\s*true', event_of(client, "one", ["you are kind"]))
    assert [texts for _, texts in threads] == [["you are kind"]]


def test_with_several_workers_there_is_none(scorer):
    assert page_of(service_of(scorer, workers=2)) is None


def test_the_card_comes_without_its_metadata(tmp_path):
    assert card_of(str(tmp_path)) == card_of("owner/model") == ""
    for metadata in ("license: mit", "broken: [", "a: 1\r\nb: 2"):
        (tmp_path / "README.md").write_text(f"---\n{metadata}\n---\n# Title\n\n---\n\nEnd.\n")
        assert card_of(str(tmp_path)) == "# Title\n\n---\n\nEnd.\n"
