import pytest

from toxicity.errors import RequestError, refusals_exit_cleanly


def test_a_refusal_is_its_message_and_exit_code_2(capsys):
    with pytest.raises(SystemExit) as stop, refusals_exit_cleanly():
        raise RequestError("no such file: give another one.")
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: no such file: give another one.\n"


def test_other_ranks_stay_silent(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit), refusals_exit_cleanly():
        raise RequestError("no such file")
    assert capsys.readouterr().err == ""


def test_a_failure_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError), refusals_exit_cleanly():
        _ = 1 / 0
