"""Find comments whose labels are likely wrong, by scores of models that were not trained on them.

    python -m toxicity.audit --train_file comments.csv --folds 4 --output audit
    python -m toxicity.audit recipes/minilm.yaml --train_file comments.csv --folds 5 --output audit
    python -m toxicity.audit --train_file comments.csv --run runs/mine --output audit

With --folds, `run_toxicity.py` trains on all folds but one, for each of them, so that all comments are judged; the
recipe and the flags are its own, and a second start goes on where the first was interrupted. With --run, the comments
are judged that a finished run was validated on: give the flags of its data again. The most suspect labels come first in
`label_errors.csv`, with comments that are nearly the same and have another label. Needs requirements-audit.txt.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from toxicity.core.commands import CommandParser
from toxicity.core.console import printable
from toxicity.core.errors import RequestError, refusals_exit_cleanly

if TYPE_CHECKING:
    import numpy as np

    from toxicity.core.arguments import Arguments
    from toxicity.report.label_audit import Comments

# What is done to the training rows of a run or judged beside its validation rows, and is no label to audit.
RAW_ROWS = {"counterfactuals": 0.0, "identity_rows": 0.0, "identity_terms": None, "eval_files": None}


def main(argv: Sequence[str] | None = None) -> None:
    """Audit the labels, and print the most suspect ones and, as the last line, a JSON object."""
    own, argv = parse_own_flags(argv)
    # Imported only now, so that mistakes in the flags are reported before torch is loaded, which takes seconds.
    from toxicity.core import distributed
    from toxicity.core.arguments import parse_arguments
    from toxicity.core.console import set_up_console
    from toxicity.core.markdown import markdown_table
    from toxicity.evaluation.label_errors import require_cleanlab
    from toxicity.predict.ledger import writing_to
    from toxicity.predict.writers import output_file
    from toxicity.report.label_audit import audit_labels, worst_table

    require_cleanlab()
    if distributed.world_size() > 1:
        raise RequestError(
            "an audit is one process, and so is each of its trainings: ask for one with --num_processes."
        )
    arguments = parse_arguments(argv)
    _require_flags_that_mean_something(own, argv)
    set_up_console(is_main_process=True, progress_bars=False)
    comments, places, scores = judge(own, argv, arguments)
    table, found = audit_labels(comments, places, scores)
    path = own.output / "label_errors.csv"
    with writing_to(own.output), output_file(path, table.schema) as write:
        write(table)
    print(f"\n{markdown_table(*worst_table(table))}\n")
    for name, counts in found["labels"].items():
        print(
            f"{printable(name)}: of {counts['rows']:,} labels {counts['suspect']:,} are suspect, and nearly the same "
            f"comments contradict {counts['contradicted']:,}."
        )
    near = found["near_duplicates"]
    print(
        f"Nearly the same as a training comment: {near['validation_in_train']:,} validation comments, "
        f"{near['of_another_label']:,} of them with another label than one of these."
    )
    print(f"\nThe {len(table):,} most suspect labels are in {path}\n")
    print(json.dumps(found | {"file": str(path)}), flush=True)


def parse_own_flags(argv: Sequence[str] | None = None) -> tuple[argparse.Namespace, list[str]]:
    """The flags of an audit, and what remains: a recipe and flags of `run_toxicity.py`, not checked yet.

    Raises:
        RequestError: for values of its own flags that cannot be.
    """
    usage = "%(prog)s [RECIPE.yaml] (--folds K | --run DIR) --output DIR [flags of run_toxicity.py]"
    parser = CommandParser("toxicity.audit", __doc__, usage)
    scored_by = parser.add_mutually_exclusive_group(required=True)
    scored_by.add_argument("--folds", type=int, help="train so often, from 2 to 10, each time on all folds but one")
    scored_by.add_argument("--run", help="folder of a finished run, whose validation rows are judged")
    parser.add_argument("--output", required=True, type=Path, help="folder for label_errors.csv and for the trainings")
    own, rest = parser.parse_known_args(argv)
    if own.folds is not None and not 2 <= own.folds <= 10:
        raise RequestError(f"--folds is {own.folds}; it works from 2 to 10.")
    if own.output.exists() and not own.output.is_dir():
        raise RequestError(f"--output {own.output} is a file: name a folder.")
    return own, rest


def judge(own: argparse.Namespace, argv: Sequence[str], arguments: Arguments) -> tuple[Comments, list[int], np.ndarray]:
    """Read the comments, and have them scored by models that were not trained on them.

    Returns:
        The comments, the places of the labels to audit, and float64 scores `(rows, labels)`, NaN for rows without.
    """
    import numpy as np

    from toxicity.core.run_folder import RunFolder
    from toxicity.core.schema import ID
    from toxicity.data.sources import load_splits
    from toxicity.predict.ledger import writing_to
    from toxicity.report.label_audit import comments_of, require_enough
    from toxicity.report.predictions import read_predictions, require_same_rows
    from toxicity.training.folds import train_folds

    splits = load_splits(dataclasses.replace(arguments.data, **RAW_ROWS))
    comments = comments_of(splits)
    scores = np.full(comments.labels.shape, np.nan)
    validated = comments.split == "validation"
    places = require_enough(comments, validated if own.run else np.ones_like(validated))
    if own.run:
        run = RunFolder(own.run)
        predictions = read_predictions(run, splits.labels)
        require_same_rows(run, predictions, comments.rows[ID].filter(validated), comments.labels[validated])
        scores[validated] = predictions.scores
        return comments, places, scores
    names = splits.labels if arguments.data.label_column_names else None
    with writing_to(own.output):
        runs = train_folds(comments.rows, names, comments.groups, own.folds, own.output, argv, arguments)
    for run in runs:
        predictions = read_predictions(run, splits.labels)
        scores[predictions.ids.to_numpy()] = predictions.scores
    return comments, places, scores


def _require_flags_that_mean_something(own: argparse.Namespace, argv: Sequence[str]) -> None:
    from toxicity.core.arguments import DataArguments
    from toxicity.training.folds import NOT_FOR_FOLDS

    of_data = {field.name for field in dataclasses.fields(DataArguments)}
    for name in (flag[1].replace("-", "_") for part in argv if (flag := re.match(r"--([^=]+)", part))):
        if own.run and name not in of_data:
            raise RequestError(f"--{name} means nothing with --run, which is trained already: leave it out.")
        if own.folds and name in NOT_FOR_FOLDS:
            raise RequestError(
                f"--{name} means nothing for an audit, whose trainings are on all rows and go to --output: leave it "
                "out."
            )


def command() -> None:
    """What the module does as a program."""
    with refusals_exit_cleanly():
        main()


if __name__ == "__main__":
    command()
