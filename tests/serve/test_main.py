"""The command line: requests that are refused, and what the flags come to."""

import socket
import sys
from pathlib import Path

import pytest

from toxicity.core.errors import refusals_exit_cleanly
from toxicity.serve import __main__ as command_line
from toxicity.serve import server
from toxicity.serve.settings import Settings


@pytest.fixture
def refused(monkeypatch, capsys):
    """Call the command with flags, and get what it refuses them with."""
    monkeypatch.setattr(server.signal, "signal", lambda *_: None)
    monkeypatch.setattr(server, "set_up_log", lambda: None)

    def call(*flags):
        with pytest.raises(SystemExit) as stop, refusals_exit_cleanly():
            command_line.main(list(map(str, flags)))
        error = capsys.readouterr().err
        assert stop.value.code == 2, error
        assert error.startswith("error: ")
        assert "Traceback" not in error
        assert len(error.splitlines()) <= 2
        return error

    return call


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "the following arguments are required: --model"),
        (["--model", "m", "--prot", "1"], "unrecognized arguments: --prot"),
        (["--model", "m", "--port", "http"], "--port: invalid int value"),
        (["--model", "m", "--port", "65536"], "--port 65536: give a number from 0 to 65535"),
        (["--model", "m", "--workers", "0"], "--workers 0: give a number from 1 on"),
        (["--model", "m", "--languages", "english"], "--languages english: give codes of ISO 639-1"),
        (["--model", "m", "--cors_origins", "example.org"], "--cors_origins example.org: give origins such as https"),
        (["--model", "m", "--cors_origins", "https://a.org/x"], "--cors_origins https://a.org/x: give origins"),
        (["--model", "m", "--suggestions", "nowhere/s.jsonl"], "--suggestions nowhere/s.jsonl: make its folder first"),
        (["--model", "m", "--prior", "1.5"], "--prior 1.5: give a share"),
        (["--model", "m", "--threshold_for", "recal=0.9"], "--threshold_for recal=0.9: give precision, recall"),
        (["--model", "m", "--api_keys", "nowhere.txt"], "--api_keys nowhere.txt cannot be read"),
        (["--model", "m", "--host", "256.0.0.1", "--port", "0"], "cannot listen at 256.0.0.1, port 0"),
        (["--model", "nowhere/m/x", "--port", "0"], "cannot load nowhere/m/x"),
    ],
)
def test_bad_requests(refused, tmp_path, monkeypatch, flags, message):
    monkeypatch.chdir(tmp_path)
    assert message in refused(*flags)


def test_a_port_that_is_taken(refused):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error = refused("--model", "m", "--port", port)
    assert f"cannot listen at 127.0.0.1, port {port} (Address already in use): choose others by --host" in error


def test_what_is_not_installed_is_named(refused, monkeypatch):
    monkeypatch.setattr(command_line, "find_spec", lambda name: None if name in ("uvicorn", "gradio") else name)
    assert refused("--model", "m").endswith(
        "the service needs uvicorn, gradio: pip install -r requirements-serve.txt\n"
    )


def test_flags_are_settings(tmp_path):
    flags = f"--model m --host ::1 --port 0 --workers 2 --api_keys k --suggestions {tmp_path}/s --languages de en"
    flags += " --cors_origins * --toxic_label hate --prior 0.02 --threshold_for precision=0.9"
    assert command_line.parse_settings(flags.split()) == Settings(
        "m",
        host="::1",
        port=0,
        workers=2,
        api_keys=Path("k"),
        suggestions=tmp_path / "s",
        languages=("de", "en"),
        cors_origins=("*",),
        toxic_label=("hate",),
        prior=(0.02,),
        threshold_for="0.9",
    )
    assert command_line.parse_settings(["--model", "m"]) == Settings("m")


def test_the_console_script_ends_with_the_code_of_a_refusal(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["toxicity-serve"])
    with pytest.raises(SystemExit) as stop:
        command_line.command()
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("error: ")
