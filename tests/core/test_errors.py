import signal
import subprocess
import sys
import textwrap
import time

import pytest
from builders import ROOT

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


@pytest.fixture
def sigint():
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("message", "shown"), [("", "Interrupted by Ctrl-C."), ("All is kept.", "All is kept.")])
def test_ctrl_c_is_a_line_and_exit_code_130(capsys, sigint, message, shown):
    with pytest.raises(SystemExit) as stop, refusals_exit_cleanly():
        raise KeyboardInterrupt(message)
    assert stop.value.code == 130
    assert capsys.readouterr().err == f"{shown}\n"
    assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL, "a second one ends the process at once"


def test_one_process_of_several_tells_of_ctrl_c(capsys, sigint, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit) as stop, refusals_exit_cleanly():
        raise KeyboardInterrupt
    assert stop.value.code == 130
    assert capsys.readouterr().err == ""


def test_a_second_ctrl_c_ends_what_will_not_end():
    code = """
        import threading, time
        from toxicity.core.errors import refusals_exit_cleanly
        with refusals_exit_cleanly():
            threading.Thread(target=time.sleep, args=(60,)).start()
            print("ready", flush=True)
            time.sleep(60)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        **{"cwd": ROOT, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True},
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline() == "Interrupted by Ctrl-C.\n"
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) in (-signal.SIGINT, 130)
    assert "Traceback" not in process.stderr.read()
