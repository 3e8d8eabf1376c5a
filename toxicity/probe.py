"""The identity swap probe of any model, as a command.

python -m toxicity.probe --model runs/sample
"""

from __future__ import annotations

import argparse
import json
import sys

from toxicity.core.console import set_up_console
from toxicity.core.errors import EXIT_FAILED, refusals_exit_cleanly
from toxicity.evaluation.identity_probe import describe_probe, probe


def main(argv: list[str] | None = None) -> None:
    """Probe a model, print what was found, and the same as JSON on the last line."""
    parser = argparse.ArgumentParser(prog="python -m toxicity.probe", description=main.__doc__, allow_abbrev=False)
    parser.add_argument("--model", required=True, help="folder of a run, or a model on the Hub")
    arguments = parser.parse_args(argv)
    set_up_console(is_main_process=True, progress_bars=False)
    # Here, so that a typing error in the flags is answered before torch is loaded.
    from toxicity.predict.scorer import Scorer

    scorer = Scorer(arguments.model)
    found = probe(scorer, scorer.thresholds)
    if found is None:
        sys.exit(EXIT_FAILED)
    print(f"\n{describe_probe(found)}\n")
    print(json.dumps(found), flush=True)


def command() -> None:
    """What `toxicity-probe` runs."""
    with refusals_exit_cleanly():
        main()


if __name__ == "__main__":
    command()
