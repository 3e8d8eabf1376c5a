"""The flags of what a trained model is judged on beside the validation rows."""

from __future__ import annotations

import re
from dataclasses import dataclass

from transformers.hf_argparser import HfArg

from toxicity.core.console import quoted
from toxicity.core.errors import RequestError

EVAL_FILES = "--eval_files"
# They are headings of tables and keys of JSON.
NAME = re.compile(r"[\w.-]{1,40}")


@dataclass
class EvaluationArguments:
    """On what else a trained model is judged."""

    eval_files: list[str] | None = HfArg(
        default=None,
        help="Further labelled comments, of another source, that the trained model is judged on in the end: NAME=FILE, "
        "each in the formats of --train_file.",
    )
    robustness_rows: int = HfArg(
        default=250,
        help="So many validation comments are also scored in capitals, with typos and in other such ways; 0 for none.",
    )

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for given in self.eval_files or ():
            name, sign, file = given.partition("=")
            if not sign or not file:
                raise RequestError(f"{EVAL_FILES} {quoted(given)}: give NAME=FILE, such as forum=forum.csv.")
            if not NAME.fullmatch(name):
                raise RequestError(
                    f"{EVAL_FILES} {quoted(given)}: what stands before the first = is the name of the file in the "
                    "report, of at most 40 letters, digits and . _ -, such as forum=forum.csv."
                )
            if name.casefold() in seen:
                raise RequestError(f"{EVAL_FILES} gives the name {quoted(name)} twice: give each file its own.")
            seen.add(name.casefold())
        if self.robustness_rows < 0:
            raise RequestError(f"--robustness_rows is {self.robustness_rows}; the least that works is 0, for none.")

    @property
    def eval_addresses(self) -> dict[str, str]:
        """The address of each further file by its name."""
        return {name: file for name, _, file in (given.partition("=") for given in self.eval_files or ())}
