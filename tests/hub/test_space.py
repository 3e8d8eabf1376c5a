import json
import os
import re
import subprocess
import sys

import pytest
import yaml
from builders import ROOT, make_comments
from hub_server import OWNER, READ_TOKEN, WRITE_TOKEN
from huggingface_hub import CommitOperationAdd, HfApi, snapshot_download
from published_run import REPO

from toxicity.core.errors import PublishError, RequestError
from toxicity.hub.__main__ import main
from toxicity.hub.push import push_run
from toxicity.hub.space import ROOMS, push_space

SPACE = f"{OWNER}/toxic-comments"  # as the model is called

START = """
import json, sys
# Not among the requirements of a Space.
sys.modules |= dict.fromkeys(["prometheus_client", "sentencex", "captum", "matplotlib", "evaluate"])
import app
assert app.page.title == "tester/toxic-comments: toxicity of comments", app.page.title
from toxicity.serve.page import launch_options
ours = [name for name in sys.modules if name.split(".")[0] == "toxicity"]
address = app.page.launch(**launch_options(), prevent_thread_lock=True, quiet=True)[1]
import httpx
page = httpx.get(address).text
scores = app.score(json.load(sys.stdin))[:, 0].tolist()
words = [word.text for word in app.explain("you are kind")]
app.page.close()
print(json.dumps({"modules": ours, "page": "gradio_config" in page, "scores": scores, "words": words}))
"""


@pytest.fixture
def published(hub, finished_run):
    """A run whose model is on the Hub."""
    push_run(finished_run, "toxic-comments")
    return finished_run


def test_what_is_published_is_made_here_or_code_of_the_rooms_that_the_page_needs(hub, published):
    before = len(hub.requests)
    assert push_space(published, "toxic-comments", "toxic-comments") == f"{hub.endpoint}/spaces/{SPACE}"
    assert len([call for call in hub.requests[before:] if "/commit/" in call.path]) == 1
    files = hub.files(f"spaces/{SPACE}")
    rooms = {name.split("/")[1] for name in files if name.count("/") > 1}
    assert rooms == set(ROOMS)
    code = {path.relative_to(ROOT).as_posix() for room in ROOMS for path in (ROOT / "toxicity" / room).rglob("*.py")}
    assert set(files) == {"app.py", "README.md", "requirements.txt", "toxicity/__init__.py", *code}
    received = hub.received()
    for private in (WRITE_TOKEN.encode(), b"jane.doe", str(published.parent).encode(), str(ROOT).encode()):
        assert private not in received


def test_the_card_and_the_requirements_are_those_of_a_space(hub, published):
    push_space(published, "try-it", "toxic-comments")
    files = hub.files(f"spaces/{OWNER}/try-it")
    lines = files["requirements.txt"].decode().splitlines()
    pinned = dict(re.fullmatch(r"([\w-]+)[=>]=([\d.]+)", line).groups() for line in lines)
    assert yaml.safe_load(files["README.md"].decode().split("---\n")[1]) == {
        "title": "toxic-comments",
        "sdk": "gradio",
        "sdk_version": pinned["gradio"],
        "python_version": "3.11",
        "app_file": "app.py",
        "license": "apache-2.0",
        "models": [REPO],
    }
    known = [(ROOT / name).read_text() for name in ("requirements.txt", "requirements-serve.txt")]
    assert set(lines) <= set("\n".join(known).splitlines())


def test_a_space_starts_as_it_was_uploaded(hub, published, tmp_path):
    push_space(published, "toxic-comments", "toxic-comments")
    folder = snapshot_download(SPACE, repo_type="space", local_dir=tmp_path / "space")
    texts = [text for text, _ in make_comments(8)]
    environment = {name: value for name, value in os.environ.items() if name not in ("HF_TOKEN", "PYTHONPATH")}
    environment |= {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "empty"), "HF_HUB_OFFLINE": "0"}
    environment |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1,localhost"}
    done = subprocess.run(
        [sys.executable, "-c", START],
        input=json.dumps(texts),
        env=environment | {"GRADIO_SERVER_NAME": "127.0.0.1"},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert {name.split(".")[1] for name in told["modules"] if "." in name} == set(ROOMS)
    assert told["page"]
    assert len(set(told["scores"])) == len(texts)
    assert told["words"] == ["you", "are", "kind"]


def test_what_an_earlier_version_left_is_taken_away_and_the_rest_stays(hub, published):
    push_space(published, "toxic-comments", "toxic-comments")
    theirs = ("toxicity/serve/gone.py", "toxicity/serve/notes.txt", "toxicity/hub/push.py", "LICENSE")
    operations = [CommitOperationAdd(name, b"x") for name in theirs]
    HfApi().create_commit(SPACE, operations, commit_message="by hand", repo_type="space")
    before = set(hub.files(f"spaces/{SPACE}"))
    push_space(published, "toxic-comments", "toxic-comments")
    assert before - set(hub.files(f"spaces/{SPACE}")) == {"toxicity/serve/gone.py"}


def test_a_model_that_is_not_on_the_hub_is_published_first(hub, finished_run):
    with pytest.raises(PublishError) as stop:
        push_space(finished_run, "try-it")
    message = str(stop.value)
    assert f"there is no model {OWNER}/mine" in message
    assert f"python -m toxicity.hub {finished_run} --repo {OWNER}/mine" in message
    assert f"python -m toxicity.hub {finished_run} --space try-it" in message
    assert f"spaces/{OWNER}/try-it" not in hub.repos


def test_a_private_model_needs_a_secret(hub, finished_run, caplog):
    push_run(finished_run, "toxic-comments", private=True)
    push_space(finished_run, "try-it", "toxic-comments")
    assert f"{REPO} is private: give the Space a secret HF_TOKEN" in caplog.text


def test_without_a_token_nothing_is_tried(hub, finished_run, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(PublishError, match="there is no token"):
        push_space(finished_run, "try-it")
    assert not hub.requests


@pytest.mark.parametrize("space", ["datasets/me/x", "no spaces", "../up"])
def test_names_that_no_space_can_have_are_refused(hub, finished_run, space):
    with pytest.raises(RequestError, match="NAME or OWNER/NAME"):
        push_space(finished_run, space)
    assert not hub.requests


def test_a_token_that_may_not_write_is_told(hub, published, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", READ_TOKEN)
    with pytest.raises(PublishError, match="may not write"):
        push_space(published, "toxic-comments", "toxic-comments")


def test_the_command_publishes_a_space(hub, published, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["hub", str(published), "--space", "try-it", "--repo", REPO, "--private"])
    main()
    assert capsys.readouterr().out == f"Published: {hub.endpoint}/spaces/{OWNER}/try-it\n"
    assert hub.repos[f"spaces/{OWNER}/try-it"].private


@pytest.mark.parametrize(
    ("flags", "told"), [([], "--space"), (["--space", "x", "--revision", "y"], "leave out --revision")]
)
def test_flags_that_make_no_sense_are_refused(flags, told, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["hub", "runs/mine", *flags])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert told in capsys.readouterr().err
