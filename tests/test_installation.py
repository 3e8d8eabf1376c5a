"""The project as pip installs it: complete, and at work outside of the checkout."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from builders import ROOT

SOURCES = ["pyproject.toml", "README.md", "LICENSE", "run_toxicity.py", "toxicity", "recipes", "accelerate_configs"]
DATA_FILES = {".yaml", ".json", ".jinja", ".mplstyle"}
REQUIREMENTS = sorted(ROOT.glob("requirements*.txt"))

# Tells where things are found, then answers as `python -m toxicity.predict --help`.
AT_WORK = """
import importlib.metadata, importlib.util, json, runpy, sys
from toxicity.core.arguments import parse_arguments
from toxicity.hardware import preflight

commands = importlib.metadata.distribution("toxicity-trainer").entry_points
print(json.dumps({
    "main": importlib.util.find_spec("run_toxicity").origin,
    "dataset": parse_arguments([]).data.dataset_name,
    "configs": str(preflight.CONFIGS),
    "commands": {command.name: callable(command.load()) for command in commands},
}))
sys.argv = ["predict", "--help"]
runpy.run_module("toxicity.predict", run_name="__main__")
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder that the project is installed into, from a copy, as a build leaves folders beside its sources."""
    copy, target = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("installed")
    for source in [*SOURCES, *(path.name for path in REQUIREMENTS)]:
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, copy / source, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, copy / source)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    command += ["--no-deps", "--no-build-isolation", "--target", str(target), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


def test_every_module_and_data_file_is_installed(installed):
    for path in (ROOT / "toxicity").rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            assert path.suffix in {".py", *DATA_FILES}, f"pyproject.toml does not install {path}"
            assert (installed / path.relative_to(ROOT)).read_bytes() == path.read_bytes()
    for folder in ("recipes", "accelerate_configs"):
        for path in (ROOT / folder).iterdir():
            assert (installed / "toxicity" / folder / path.name).read_bytes() == path.read_bytes()


def test_it_works_outside_of_the_checkout(installed, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(installed), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", AT_WORK], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told, usage = done.stdout.split("\n", 1)
    assert json.loads(told) == {
        "main": str(installed / "run_toxicity.py"),
        "dataset": "sample",
        "configs": str(installed / "toxicity" / "accelerate_configs"),
        "commands": {"toxicity-predict": True, "toxicity-probe": True, "toxicity-serve": True},
    }
    assert "--precision_target" in usage
    assert list(tmp_path.iterdir()) == []


def test_files_of_requirements_agree_and_name_no_others():
    versions = {}
    for path in REQUIREMENTS:
        for line in filter(None, (line.partition("#")[0].strip() for line in path.read_text().splitlines())):
            # What setuptools reads from a file; pip would also take `-r other.txt`.
            assert re.fullmatch(r"[A-Za-z0-9_.-]+(\[[a-z]+\])?(==|>=)[0-9.]+(; sys_platform != .win32.)?", line), (
                f"{path.name}: {line}"
            )
            name = re.split(r"[\[=>]", line)[0].lower()
            assert versions.setdefault(name, line) == line, f"{path.name}: {line}, and elsewhere {versions[name]}"
