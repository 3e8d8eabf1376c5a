"""`python -m toxicity.launch`: what the launchers of Accelerate raise becomes the exit code of the run."""

import signal
import subprocess
import sys
from time import time

import accelerate.commands.launch
import pytest
import torch
from builders import ROOT
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from toxicity.core.errors import RequestError, refusals_exit_cleanly
from toxicity.launch import main

FLAGS = ["--num_machines", "2", "--main_process_ip", "192.0.2.1", "--main_process_port", "29500", "run_toxicity.py"]


def failed(*codes):
    """What the launcher of several processes raises, of which these failed one after another."""
    failures = {}
    for rank, code in enumerate(codes):
        failures[rank] = ProcessFailure(rank, 100 + rank, code, "<N/A>")
        failures[rank].timestamp = int(time()) + rank
    return ChildFailedError("run_toxicity.py", failures)


ENDS = {
    "interrupted": (failed(75, 1), 75),
    "refused": (failed(2, 75), 2),
    "killed": (failed(-signal.SIGKILL), 137),
    "SIGTERM": (SignalException("", signal.SIGTERM), 75),
    "Ctrl-C": (SignalException("", signal.SIGINT), 130),
    "hung up": (SignalException("", signal.SIGHUP), 129),
    "nobody there": (torch.distributed.DistNetworkError("The client socket has timed out after 600000ms"), 1),
    "port taken": (ConnectionError("another process is utilizing it"), 1),
}


@pytest.mark.parametrize("end", ENDS)
def test_the_exit_code_is_that_of_the_run(monkeypatch, capsys, end):
    raised, code = ENDS[end]

    def launch(arguments):
        raise raised

    monkeypatch.setattr(accelerate.commands.launch, "launch_command", launch)
    with pytest.raises(SystemExit) as stop, refusals_exit_cleanly():
        main(FLAGS)
    assert stop.value.code == code
    said = capsys.readouterr().err
    if code == 1:
        assert said.startswith("error: the machines did not find each other at 192.0.2.1:29500, the machine of")
    else:
        assert said == ""


def test_a_run_that_ends_well_does_so_here(monkeypatch):
    asked = []
    monkeypatch.setattr(accelerate.commands.launch, "launch_command", asked.append)
    main([*FLAGS, "recipes/sample.yaml", "--seed", "5"])
    assert asked[0].training_script_args == ["recipes/sample.yaml", "--seed", "5"]


def test_a_config_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(RequestError, match=f"--config_file {tmp_path}/none.yaml: there is no such file"):
        main(["--config_file", f"{tmp_path}/none.yaml", *FLAGS])


SAVES = """\
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
print("training", flush=True)
time.sleep(60)
"""


KILLED = "os.kill(os.getpid(), 9)"


@pytest.mark.parametrize(("code", "expected"), [("sys.exit(2)", 2), ("", 0), (KILLED, -9), (SAVES, 75)])
def test_a_single_process_has_the_signals_and_the_exit_code_of_the_launcher(tmp_path, code, expected):
    (tmp_path / "script.py").write_text(f"import os, signal, sys, time\n{code}")
    command = [sys.executable, "-m", "toxicity.launch", "--quiet", "--cpu", "--num_processes", "1"]
    command.append(str(tmp_path / "script.py"))
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        if process.stdout.readline() == "training\n":
            process.terminate()
        _, errors = process.communicate(timeout=100)
    assert process.returncode == expected, errors
    assert "Traceback" not in errors
