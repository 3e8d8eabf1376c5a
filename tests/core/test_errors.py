import pytest

from toxicity.core.errors import HEAD_START_SECONDS, PublishError, RequestError, RunFailure, refusals_exit_cleanly


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


def test_another_process_says_what_it_alone_found_once_the_first_had_its_time(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    waited = []
    monkeypatch.setattr("time.sleep", waited.append)
    with pytest.raises(SystemExit) as stop, refusals_exit_cleanly():
        raise RequestError("no such file")
    assert stop.value.code == 2
    assert waited == [HEAD_START_SECONDS]
    assert capsys.readouterr().err == "error in process 1: no such file\n"


def test_another_process_that_is_ended_while_it_waits_repeats_nothing(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")

    def end(seconds):
        raise SystemExit(-15)

    monkeypatch.setattr("time.sleep", end)
    with pytest.raises(SystemExit), refusals_exit_cleanly():
        raise RequestError("no such file")
    assert capsys.readouterr().err == ""


def test_a_failure_is_told_at_once_by_every_process(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("it waited"))
    with pytest.raises(SystemExit) as stop, refusals_exit_cleanly():
        raise RunFailure("the disk is full")
    assert stop.value.code == 1
    assert capsys.readouterr().err == "error in process 1: the disk is full\n"


def test_a_failure_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError), refusals_exit_cleanly():
        _ = 1 / 0
