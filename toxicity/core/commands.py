"""What the command lines of the package have in common, beside that of a run (`core.arguments`)."""

from __future__ import annotations

import argparse
from typing import NoReturn

from toxicity.core.errors import RequestError


class CommandParser(argparse.ArgumentParser):
    """A parser whose refusals are `RequestError`s, which name the command that lists all flags.

    Args:
        module: what `python -m` runs, such as `toxicity.predict`.
        description: shown as it is.
        usage: by default made of the flags.
    """

    def __init__(self, module: str, description: str | None, usage: str | None = None) -> None:
        super().__init__(
            prog=f"python -m {module}",
            usage=usage,
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Refuse the command line."""
        raise RequestError(f"{message}. All flags: {self.prog} --help")


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say which model is loaded beside its name: revision, toxic labels and runtime."""
    parser.add_argument("--model_revision", default="main", help="branch, tag or commit on the Hub")
    parser.add_argument(
        "--toxic_label", nargs="+", default=[], help="the model's labels that mean toxic, if their names do not say"
    )
    parser.add_argument(
        "--runtime",
        choices=("torch", "openvino", "onnxruntime"),
        help="what computes the model (see python -m toxicity.predict --help)",
    )
