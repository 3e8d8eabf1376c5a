"""Publish a finished run on the Hub.

python -m toxicity.hub runs/sample --repo toxic-comments
"""

from __future__ import annotations

import argparse
from pathlib import Path

from toxicity.core.errors import refusals_exit_cleanly


def main() -> None:
    """Publish the run that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m toxicity.hub", description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, help="the --output_dir of a finished run")
    parser.add_argument("--repo", required=True, help="NAME or OWNER/NAME on the Hub; created if it does not exist")
    parser.add_argument("--private", action="store_true", default=None, help="make a new repo private")
    parser.add_argument("--revision", metavar="BRANCH", help="branch to commit to; by default main")
    arguments = parser.parse_args()
    # Imported only now, so that mistakes in the flags are reported before torch is loaded, which takes seconds.
    from toxicity.hub.push import push_run

    address = push_run(arguments.run, arguments.repo, arguments.private, arguments.revision)
    print(f"Published: {address}")


if __name__ == "__main__":
    with refusals_exit_cleanly():
        main()
