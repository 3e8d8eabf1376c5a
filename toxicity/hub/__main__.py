"""Publish a finished run on the Hub.

    python -m toxicity.hub runs/sample --repo toxic-comments
    python -m toxicity.hub runs/sample --space try-toxic-comments --repo toxic-comments

The second publishes the page to try a model that is on the Hub already, as a Space.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from toxicity.core.errors import refusals_exit_cleanly


def main() -> None:
    """Publish the run that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m toxicity.hub", description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, help="the --output_dir of a finished run")
    parser.add_argument("--repo", help="NAME or OWNER/NAME of the model on the Hub; created if it does not exist")
    parser.add_argument(
        "--space", metavar="NAME", help="publish the page to try the model instead, as this Space beside it"
    )
    parser.add_argument("--private", action="store_true", default=None, help="make a new repo private")
    parser.add_argument("--revision", metavar="BRANCH", help="branch to commit to; by default main")
    arguments = parser.parse_args()
    if arguments.repo is None and arguments.space is None:
        parser.error("the following arguments are required: --repo, or --space for the page to try the model")
    if arguments.space is not None and arguments.revision is not None:
        parser.error("a Space runs what is on its branch main: leave out --revision")
    # Imported only now, so that mistakes in the flags are reported before torch is loaded, which takes seconds.
    if arguments.space is not None:
        from toxicity.hub.space import push_space

        address = push_space(arguments.run, arguments.space, arguments.repo, arguments.private)
    else:
        from toxicity.hub.push import push_run

        address = push_run(arguments.run, arguments.repo, arguments.private, arguments.revision)
    print(f"Published: {address}")


if __name__ == "__main__":
    with refusals_exit_cleanly():
        main()
