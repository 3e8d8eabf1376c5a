"""Run the identity swap probe (`evaluation.identity_probe`) on any model.

python -m toxicity.probe --model runs/sample
"""

from __future__ import annotations

import argparse
import json
import sys

import numpy as np

from toxicity.core.console import set_up_console
from toxicity.core.errors import EXIT_FAILED, refusals_exit_cleanly
from toxicity.core.markdown import markdown_table
from toxicity.evaluation.identity_probe import describe_probe, label_table, probe_labels


def main(argv: list[str] | None = None) -> None:
    """Probe a model and print the result, as JSON on the last line."""
    parser = argparse.ArgumentParser(prog="python -m toxicity.probe", description=main.__doc__, allow_abbrev=False)
    parser.add_argument("--model", required=True, help="folder of a run or an export, or a model on the Hub")
    parser.add_argument("--model_revision", default="main", help="branch, tag or commit on the Hub")
    parser.add_argument(
        "--toxic_label", nargs="+", default=[], help="the model's labels that mean toxic, if their names do not say"
    )
    parser.add_argument(
        "--runtime",
        choices=("torch", "openvino", "onnxruntime"),
        help="what computes the model (see python -m toxicity.predict --help)",
    )
    arguments = parser.parse_args(argv)
    set_up_console(is_main_process=True, progress_bars=False)
    # Imported only now, so that mistakes in the flags are reported before torch is loaded, which takes seconds.
    from toxicity.predict.scorer import Scorer

    scorer = Scorer(
        arguments.model, arguments.model_revision, toxic_label=arguments.toxic_label, runtime=arguments.runtime
    )

    def score(texts: list[str]) -> np.ndarray:
        found = scorer.by_label(texts)
        return np.stack([found[name] for name in scorer.calibrations], axis=1)

    result = probe_labels(score, {name: fitted.thresholds for name, fitted in scorer.calibrations.items()})
    if result is None:
        sys.exit(EXIT_FAILED)
    print(f"\n{describe_probe(result)}\n")
    if "labels" in result:
        print(f"Shifts of the scores of all labels:\n\n{markdown_table(*label_table(result))}\n")
    print(json.dumps(result), flush=True)


def command() -> None:
    """Entry point of the console script `toxicity-probe`."""
    with refusals_exit_cleanly():
        main()


if __name__ == "__main__":
    command()
