"""The unit of systemd and the Dockerfile in examples/, as far as they can be checked without installing them."""

import json
import re
import shlex
import shutil
import subprocess
import sys

import pytest
from builders import ROOT

from toxicity.serve.__main__ import parse_settings

UNIT = ROOT / "examples" / "toxicity-serve.service"
DOCKERFILE = (ROOT / "examples" / "Dockerfile").read_text(encoding="utf-8")
needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")


def systemd(*arguments):
    command = ["systemd-analyze", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def unit(tmp_path):
    """The unit with a program that is there."""
    text = UNIT.read_text(encoding="utf-8").replace("/opt/toxicity/bin/toxicity-serve", sys.executable)
    (tmp_path / UNIT.name).write_text(text, encoding="utf-8")
    return tmp_path / UNIT.name


@needs_systemd
def test_systemd_understands_the_unit(unit):
    done = systemd("verify", "--man=no", unit)
    assert done.returncode == 0, done.stderr
    assert UNIT.name not in done.stderr, done.stderr


@needs_systemd
def test_systemd_finds_the_unit_hardened(unit):
    done = systemd("security", "--offline=true", "--threshold=20", unit)
    if "Unknown" in done.stderr or "unrecognized" in done.stderr:
        pytest.skip("this systemd-analyze judges no files")
    assert done.returncode == 0, done.stdout[-300:] + done.stderr


def test_flags_of_the_unit_are_those_of_the_command():
    (line,) = re.findall(r"^ExecStart=(.*)$", UNIT.read_text(encoding="utf-8"), flags=re.M)
    settings = parse_settings(shlex.split(line)[1:])
    assert settings.host == "127.0.0.1"
    assert settings.api_keys is not None


def instructions():
    """Instructions of the Dockerfile with what follows each, in order."""
    joined = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.M))
    return [tuple(line.split(None, 1)) for line in joined.splitlines() if line.strip()]


def test_the_dockerfile_says_that_nobody_has_built_it():
    assert DOCKERFILE.startswith("# Nobody has built this image")


def test_the_dockerfile_copies_what_is_there():
    for name, rest in instructions():
        if name == "COPY":
            *sources, _ = rest.split()
            assert all(list(ROOT.glob(source)) for source in sources), rest
    copied = " ".join(rest for name, rest in instructions() if name == "COPY")
    for needed in ("toxicity", "recipes", "accelerate_configs", "requirements*.txt", "run_toxicity.py", "README.md"):
        assert needed in copied


def test_the_image_runs_the_service_as_somebody_who_is_not_root():
    found = dict(instructions())
    assert found["USER"] == "10001:10001"
    assert [name for name, _ in instructions()].index("USER") < [name for name, _ in instructions()].index("ENTRYPOINT")
    command, *flags = json.loads(found["ENTRYPOINT"]) + json.loads(found["CMD"])
    settings = parse_settings(flags)
    assert command == "toxicity-serve"
    assert settings.host == "0.0.0.0"
    assert settings.api_keys is not None
    assert str(settings.port) == found["EXPOSE"]
    compile(json.loads(found["HEALTHCHECK"].split("CMD ")[1])[2], "HEALTHCHECK", "exec")
