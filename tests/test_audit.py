"""The audit of the installed packages, with something in the place of pip-audit."""

import importlib.util
import json
import sys

import pytest
from builders import ROOT


@pytest.fixture
def audit(tmp_path, capsys):
    """Audit with a pip-audit that prints this, or complains of that; gives the exit code and what was printed."""
    spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci" / "audit.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def call(output="", complaint=""):
        script = tmp_path / "pip-audit"
        script.write_text(f"#!{sys.executable}\nimport sys\nprint({output!r})\nsys.exit({complaint!r})\n")
        script.chmod(0o755)
        return module.main(str(script)), "".join(capsys.readouterr())

    return call


def packages(**advisories):
    """Dependencies as pip-audit lists them, each with its vulnerabilities, or None where it could not look it up."""
    found = [
        {"name": name, "skip_reason": "unknown"} if vulns is None else {"name": name, "version": "1.0", "vulns": vulns}
        for name, vulns in advisories.items()
    ]
    return json.dumps({"dependencies": found})


def test_without_a_network_nothing_was_audited_and_that_is_a_failure(audit):
    code, told = audit(complaint="Failed to connect: no route to host")
    assert code == 1
    assert "nothing was audited" in told
    assert "no route to host" in told


def test_what_could_not_be_looked_up_is_no_success(audit):
    code, told = audit(packages(torch=None))
    assert code == 1
    assert "nothing was audited" in told


def test_what_is_known_to_be_vulnerable_is_named(audit):
    code, told = audit(packages(torch=[{"id": "CVE-1", "fix_versions": ["1.1"]}], numpy=[], odd=None))
    assert code == 1
    assert "torch 1.0: CVE-1, fixed in 1.1" in told
    assert "Looked up 2 packages; with known vulnerabilities: 1." in told
    assert "the service does not know them: odd" in told


def test_nothing_known_is_success(audit):
    assert audit(packages(torch=[], numpy=[])) == (0, "Looked up 2 packages; with known vulnerabilities: 0.\n")
