import os
import shutil
import sys

import pytest
from builders import ROOT
from processes import run


@pytest.fixture(autouse=True)
def not_within_make(monkeypatch):
    """What was said to the `make test` that these tests run in, such as GPU=p100, is not said to theirs."""
    for name in ("MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS", "MAKELEVEL", "GPU", "TORCH_INDEX"):
        monkeypatch.delenv(name, raising=False)


def test_make_lists_the_machines_it_knows():
    refused = run("make", "bench", "GPU=k80")
    assert refused.returncode == 2
    assert "unknown GPU `k80`; the known ones are" in refused.stderr
    assert "p100" in refused.stderr


def test_make_shows_its_targets():
    shown = run("make")
    assert shown.returncode == 0
    for target in ("setup", "demo", "test", "bench", "bench-speed", "chart", "compare", "estimate"):
        assert f"\n{target} " in f"\n{shown.stdout}"


def test_the_name_of_a_machine_may_have_capitals(tmp_path):
    shown = run("make", "--dry-run", "setup", "GPU=P100", f"VENV={tmp_path / 'venv'}")
    assert shown.returncode == 0, shown.stderr
    assert "-c constraints/p100.txt" in shown.stdout


def test_torch_alone_comes_from_an_index_of_its_own(tmp_path):
    index = "https://wheels.example/cpu"
    shown = run("make", "--dry-run", "setup", f"TORCH_INDEX={index}", f"VENV={tmp_path / 'venv'}")
    assert shown.returncode == 0, shown.stderr
    installs = [line for line in shown.stdout.splitlines() if "pip install" in line]
    assert [index in line for line in installs] == [True, False]
    assert f"--no-deps --index-url '{index}' torch -c constraints/cpu.txt" in installs[0]
    assert all("-c constraints/cpu.txt" in line for line in installs)
    without = run("make", "--dry-run", "setup", f"VENV={tmp_path / 'venv'}").stdout
    assert without.count("pip install") == 1
    assert "index" not in without


@pytest.mark.parametrize(
    ("gpu", "version", "fine"),
    [
        ("p100", (3, 14, 0), False),
        ("v100", (3, 15, 1), False),
        ("p100", (3, 13, 9), True),
        ("ampere", (3, 14, 0), True),
        ("cpu", (3, 10, 2), False),
    ],
)
def test_a_python_that_torch_has_no_wheels_for_is_refused_before_anything_is_made(tmp_path, gpu, version, fine):
    python = tmp_path / "python"
    python.write_text(
        f"#!{sys.executable}\nimport sys\nsys.version_info = {version}\n"
        "if sys.argv[1] == '-c':\n    exec(sys.argv[2])\nelse:\n    sys.exit('made')\n"
    )
    python.chmod(0o755)
    made = run("make", "setup", f"GPU={gpu}", f"PYTHON={python}", f"VENV={tmp_path / 'venv'}")
    assert made.returncode == 2
    assert ("made" in made.stderr.splitlines()) is fine
    if gpu in ("p100", "v100") and not fine:
        assert f"torch 2.7.1, the build for {gpu}, has no wheels for Python 3.14 or newer" in made.stdout + made.stderr
        assert f"make setup GPU={gpu} PYTHON=python3.13" in made.stdout + made.stderr


@pytest.mark.parametrize(("given", "seen"), [(None, "0"), ("3", "3"), ("", "")])
def test_a_benchmark_runs_on_the_card_that_the_user_chose(tmp_path, monkeypatch, given, seen):
    """Its two commands, as the shell runs them, with a program in place of Python and of the launcher."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    bin_ = tmp_path / "venv" / "bin"
    bin_.mkdir(parents=True)
    for name in ("python", "accelerate"):
        (bin_ / name).write_text('#!/bin/sh\necho "$1 $2 sees [$CUDA_VISIBLE_DEVICES]"\n')
        (bin_ / name).chmod(0o755)
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    (bin_.parent / ".ready-v100").touch()
    (tmp_path / "train.csv").touch()
    environment = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    if given is not None:
        environment["CUDA_VISIBLE_DEVICES"] = given
    done = run("make", "bench", "GPU=v100", f"DATA={tmp_path / 'train.csv'}", f"VENV={bin_.parent}", **environment)
    assert done.returncode == 0, done.stderr
    assert f"-m toxicity.hardware.preflight sees [{seen}]" in done.stdout
    assert f"launch --quiet sees [{seen}]" in done.stdout
    assert "--gpu_ids" not in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("npm", [None, "exit 1", "mkdir -p $3/node_modules"])
def test_tests_go_on_without_the_client_of_npm(tmp_path, npm):
    (tmp_path / "package-lock.json").touch()
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in ("make", "sh", "touch", "mkdir", "tr"):
        (commands / name).symlink_to(shutil.which(name))
    if npm:
        (commands / "npm").write_text(f"#!/bin/sh\n{npm}\n")
        (commands / "npm").chmod(0o755)
    mark = tmp_path / "node_modules" / ".package-lock.json"
    done = run("make", f"JAVASCRIPT={tmp_path}", mark, PATH=str(commands))
    assert done.returncode == 0, done.stderr
    assert ("is skipped" in done.stderr) == (npm == "exit 1")
    assert mark.exists() == (npm is not None and npm != "exit 1")
