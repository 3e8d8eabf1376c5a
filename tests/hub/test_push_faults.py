import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
from builders import ROOT
from hub_server import READ_TOKEN
from huggingface_hub import HfApi
from huggingface_hub.utils import get_session
from published_run import PUBLISHED, REPO

from toxicity.core.errors import PublishError
from toxicity.hub.__main__ import main
from toxicity.hub.push import check_access, push_run


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def no_token(hub, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")


def unknown_token(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 30)


def read_token(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", READ_TOKEN)


def read_token_and_a_repo(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", READ_TOKEN)
    hub.make_repo(REPO)


def dataset_of_that_name(hub, monkeypatch):
    hub.make_repo(REPO, kind="dataset")


def hub_is_down(hub, monkeypatch):
    hub.stop()


def offline(hub, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def hub_is_ill(hub, monkeypatch):
    hub.fail("POST", "/preupload/", 500)


def commits_conflict(hub, monkeypatch):
    hub.fail("POST", "/commit/", 409)


def hub_is_silent(hub, monkeypatch):
    monkeypatch.setattr("toxicity.hub.push.SECONDS_OF_SILENCE", 0.2)
    hub.hang("POST", "/preupload/")


def validation_breaks_off(hub, monkeypatch):
    hub.drop("POST", "/validate-yaml")


FAILURES = {
    no_token: "there is no token for the Hub: run `hf auth login`, or set HF_TOKEN",
    unknown_token: "does not take the token",
    read_token: "the token may not write to",
    read_token_and_a_repo: "the token may not write to",
    dataset_of_that_name: "is a dataset, not a model: choose another name",
    hub_is_down: "ConnectError",
    offline: "unset the `HF_HUB_OFFLINE`",
    hub_is_ill: "500",
    commits_conflict: "409",
    hub_is_silent: "ReadTimeout",
    validation_breaks_off: "was not published, or not all of it",
}


@pytest.mark.parametrize("happens", FAILURES, ids=lambda happens: happens.__name__)
def test_what_keeps_a_run_from_the_hub_is_said_in_two_lines_with_exit_code_1(
    hub, finished_run, monkeypatch, capsys, happens
):
    from toxicity.core.errors import refusals_exit_cleanly

    happens(hub, monkeypatch)
    before = contents(finished_run)
    monkeypatch.setattr("sys.argv", ["hub", str(finished_run), "--repo", REPO])
    with pytest.raises(SystemExit) as stop, refusals_exit_cleanly():
        main()
    assert stop.value.code == 1
    printed = capsys.readouterr()
    reason, command = printed.err[printed.err.index("error: ") :].splitlines()
    assert FAILURES[happens] in reason
    assert (
        command
        == f"The run is whole in {finished_run}. To publish it: python -m toxicity.hub {finished_run} --repo {REPO}"
    )
    assert "hf_" not in printed.err
    assert printed.out == ""
    assert contents(finished_run) == before
    assert REPO not in hub.repos or hub.repos[REPO].kind == "dataset" or hub.files(REPO) == {}


def test_what_a_server_says_does_nothing_to_the_terminal(hub, finished_run):
    hub.fail("POST", "/preupload/", 400, message="\x1b]0;owned\x07 no\x1b[2Jway\r\x9b31m")
    with pytest.raises(PublishError, match=r"\\x1b\]0;owned") as stop:
        push_run(finished_run, REPO)
    assert all(line.isprintable() for line in str(stop.value).splitlines())
    assert len(str(stop.value).splitlines()) == 2


def test_a_name_that_no_repo_can_have_is_not_taken_from_the_hub(hub, monkeypatch):
    answer = SimpleNamespace(repo_id="me/x\x1b[2J", repo_type="model")
    monkeypatch.setattr(HfApi, "create_repo", lambda *_, **__: answer)
    with pytest.raises(PublishError) as stop:
        check_access(REPO)
    assert str(stop.value).isprintable()


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_of_the_storage_says_nothing_of_the_token(hub, finished_run, status):
    hub.fail("PUT", "/storage/", status, message="the signature has expired")
    with pytest.raises(PublishError, match="the signature has expired") as stop:
        push_run(finished_run, REPO)
    assert f"{REPO} was not published, or not all of it. " in str(stop.value)


def test_a_refusal_of_a_host_that_the_hub_points_to_says_nothing_of_the_token(hub, finished_run):
    hub.send_elsewhere("POST", "/commit/")
    with pytest.raises(PublishError, match="was not published, or not all of it. .*404"):
        push_run(finished_run, REPO)


def test_a_refusal_of_the_hub_says_why(hub, finished_run):
    hub.fail("POST", "/commit/", 403, message="Private storage limit reached")
    with pytest.raises(PublishError, match="may not write to .* Private storage limit reached"):
        push_run(finished_run, REPO)


@pytest.mark.parametrize("happens", [no_token, unknown_token, read_token, read_token_and_a_repo, hub_is_down])
def test_access_is_checked_before_there_is_anything_to_push(hub, monkeypatch, happens):
    happens(hub, monkeypatch)
    with pytest.raises(PublishError):
        check_access(REPO)


def test_a_hub_that_does_not_answer_is_not_waited_for_without_end(hub, monkeypatch):
    monkeypatch.setattr("toxicity.hub.push.SECONDS_OF_SILENCE", 0.2)
    hub.hang("POST", "/repos/create")
    with pytest.raises(PublishError, match="ReadTimeout"):
        check_access(REPO)
    assert get_session().timeout.read is None, "others keep their patience"


def test_faults_that_pass_are_sat_out(hub, finished_run):
    hub.fail("POST", "/preupload/", 500, times=2)
    hub.drop("PUT", "/storage/", after_bytes=100, times=2)
    push_run(finished_run, REPO)
    assert set(hub.files(REPO)) == PUBLISHED


def test_a_token_in_a_file_stops_the_push(hub, finished_run):
    card = finished_run / "README.md"
    card.write_text(card.read_text() + "\nhf_" + "a1B2" * 8 + "\n")
    with pytest.raises(PublishError, match="README.md holds a token"):
        push_run(finished_run, REPO)
    assert b"a1B2" not in hub.received()


def test_a_card_with_bad_metadata_is_refused_before_anything_is_sent(hub, finished_run):
    card = finished_run / "README.md"
    card.write_text(re.sub(r"license: .*", "license: do as you please", card.read_text()))
    with pytest.raises(PublishError, match=r"Invalid metadata in README.md.*license"):
        push_run(finished_run, REPO)
    assert not hub.calls("PUT", "")


def test_a_wrong_flag_of_the_command_exits_with_2_before_torch_is_loaded():
    code = (
        "import sys\nfrom toxicity.hub.__main__ import main\nsys.argv = ['hub', 'run']\ntry:\n    main()\n"
        "except SystemExit as stop:\n    assert 'torch' not in sys.modules\n    sys.exit(stop.code)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "--repo" in done.stderr
