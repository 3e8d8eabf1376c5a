import pytest

from toxicity.errors import PublishError, RequestError, refusals_exit_cleanly


def test_a_refusal_is_its_message_and_exit_code_2(capsys):
    with pytest.raises(SystemExit) as stop, refusals_exit_cleanly():
        raise RequestError("no such file: give another one.")
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: no such file: give another one.\n"


def test_a_run_that_was_not_published_has_exit_code_1_and_no_traceback(capsys):
    with pytest.raises(SystemExit) as stop, refusals_exit_cleanly():
        raise PublishError("no token: log in.")
    assert stop.value.code == 1
    assert capsys.readouterr().err == "error: no token: log in.\n"


def test_other_ranks_stay_silent(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit), refusals_exit_cleanly():
        raise RequestError("no such file")
    assert capsys.readouterr().err == ""


def test_a_failure_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError), refusals_exit_cleanly():
        _ = 1 / 0
