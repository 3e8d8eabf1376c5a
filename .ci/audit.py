"""Look up the installed packages among known vulnerabilities: `audit.py PIP_AUDIT`, run by the audited environment.

pip-audit skips packages that it cannot look up, and then reports success. This script names them, and fails if nothing
could be looked up. Local builds (torch 2.13.0+cpu) are looked up as their release (2.13.0).
"""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import tempfile
from pathlib import Path


def main(pip_audit: str) -> int:
    """Print the vulnerabilities; return 1 if there are any or if nothing could be looked up, else 0."""
    installed = {
        distribution.metadata["Name"]: distribution.version.split("+")[0]
        for distribution in importlib.metadata.distributions()
    }
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text("".join(f"{name}=={version}\n" for name, version in sorted(installed.items())))
        command = [pip_audit, "--disable-pip", "--no-deps", "--progress-spinner", "off", "--format", "json"]
        done = subprocess.run([*command, "-r", str(requirements)], capture_output=True, text=True, check=False)
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        found = []
    looked_up = [package for package in found if "skip_reason" not in package]
    if not looked_up:
        said = " ".join((done.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1].split())[:200]
        print(
            "error: nothing was audited: the advisory service could not be reached, or knows none of the "
            f"{len(installed)} packages. Run this where there is a network. ({said})",
            file=sys.stderr,
        )
        return 1
    known = [package for package in looked_up if package["vulns"]]
    for package in known:
        for advisory in package["vulns"]:
            fixed = ", ".join(advisory["fix_versions"]) or "no release"
            print(f"{package['name']} {package['version']}: {advisory['id']}, fixed in {fixed}")
    skipped = sorted(package["name"] for package in found if "skip_reason" in package)
    print(f"Looked up {len(looked_up)} packages; with known vulnerabilities: {len(known)}.")
    if skipped:
        print(f"Not looked up, as the service does not know them: {', '.join(skipped)}.")
    return 1 if known else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
