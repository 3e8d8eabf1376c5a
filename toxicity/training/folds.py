"""Out-of-fold scores: `run_toxicity.py` trains once for each part of the rows, on all other parts, and scores it."""

from __future__ import annotations

import glob
import json
import logging
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import yaml
from sklearn.model_selection import StratifiedKFold

from toxicity.core.arguments import DATA_KEYS, SAMPLE_KEYS, SAMPLE_RECIPE, Arguments
from toxicity.core.errors import EXIT_CTRL_C, EXIT_INTERRUPTED, EXIT_REFUSED, Interrupted, RequestError, RunFailure
from toxicity.core.files import digest_of, folder_written_whole, write_text
from toxicity.core.run_folder import RunFolder
from toxicity.core.schema import (
    ANNOTATOR_COUNTS,
    ID,
    IDENTITIES,
    NAMES,
    SUBTYPES,
    TARGET,
    TEXT,
    hard_labels,
    label_column,
)
from toxicity.data.split import SPLIT_SEED

SCRIPT = Path(__file__).resolve().parents[2] / "run_toxicity.py"
MOST_FOLDS = 10  # so that one digit tells them apart in patterns of names
# Flags that these trainings have of their own, that would not leave k models to score with, or that mean nothing where
# all rows are trained on and nobody reads the reports. A recipe may have them; they are left out.
NOT_FOR_FOLDS = ("dry_run", "eval_files", "identity_rows", "output_dir", "push_to_hub", "resume_from_checkpoint")

logger = logging.getLogger(__name__)


def train_folds(
    rows: pa.Table,
    labels: Sequence[str] | None,
    groups: np.ndarray,
    folds: int,
    output: Path,
    argv: Sequence[str],
    arguments: Arguments,
) -> list[RunFolder]:
    """Train on all folds but one, for each of them, and return the runs.

    The ids in `report/predictions.parquet` of a run are the numbers of its rows in `rows`. A run that is complete in
    `output` is not trained again, and one that was interrupted goes on from its newest checkpoint.

    Args:
        rows: all rows, with the columns of `data.sources.Splits`.
        labels: names of the labels, the main one first; None if nobody named them.
        groups: number of a group for each row, int64 `(rows,)`; the rows of a group are in one fold.
        folds: from 2 to `MOST_FOLDS`.
        output: folder for the files of the folds and for the runs.
        argv: recipe and flags of `run_toxicity.py`, as the user gave them.
        arguments: the same, parsed.

    Raises:
        RequestError: if a run cannot work, `output` holds runs of other rows or flags, or there is no script to train
            with, as in an installed package.
        RunFailure: if a run fails.
        Interrupted: if one was interrupted.
    """
    if not SCRIPT.exists():
        raise RequestError(
            "--folds trains with run_toxicity.py, which an installed package does not have: start the audit in a "
            "checkout, or name a finished run (--run DIR)."
        )
    recipe, flags = _without_data(argv)
    flags += [*_settings_of_sample(arguments), "--robustness_rows", "0"]
    if labels:
        flags += ["--label_column_names", *labels]
    numbers, columns = fold_numbers(rows, groups, folds), _columns(rows, labels)
    files = output / "folds"
    with folder_written_whole(files) as folder:
        write_text(folder / recipe.name, yaml.safe_dump(_recipe_without_data(recipe)))
        for fold in range(folds):
            pyarrow.parquet.write_table(columns.filter(numbers == fold), folder / f"fold-{fold}.parquet")
        _require_same(output, {"flags": flags} | {path.name: digest_of(path) for path in sorted(folder.iterdir())})
    runs = [RunFolder(output / f"run-{fold}") for fold in range(folds)]
    for fold, run in enumerate(runs):
        which = f"fold {fold + 1} of {folds}"
        if run.benchmark.exists():
            logger.info(f"Scored already: {which}.")
            continue
        logger.info(f"Training on the rows that are not in {which}, to score those that are.")
        train, scored = f"{glob.escape(str(files))}/fold-[!{fold}].parquet", int((numbers == fold).sum())
        data = ["--train_file", train, "--validation_file", str(files / f"fold-{fold}.parquet")]
        # Those of the recipe are for the whole data.
        data += ["--max_train_samples", str(len(rows) - scored), "--max_eval_samples", str(scored)]
        _run([str(files / recipe.name), *flags, *data, "--output_dir", str(run)], which)
    return runs


def fold_numbers(rows: pa.Table, groups: np.ndarray, folds: int) -> np.ndarray:
    """The fold of each row, int64 `(rows,)`, from 0: groups stay together, and all folds have the classes alike."""
    target = rows[TARGET].to_numpy()
    classes = np.where(np.isnan(target), 2, hard_labels(target))
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    numbers = np.empty(len(first), np.int64)
    splits = StratifiedKFold(folds, shuffle=True, random_state=SPLIT_SEED).split(first, classes[first])
    for fold, (_, members) in enumerate(splits):
        numbers[members] = fold
    return numbers[group]


def _columns(rows: pa.Table, labels: Sequence[str] | None) -> pa.Table:
    """What a training reads, under names that it knows: the number of a row as its id, text, labels, and what else
    there is about the comments, but subtypes that are labels.
    """
    columns = {ID: pa.array(np.arange(len(rows))), TEXT: rows[TEXT]}
    for number, name in enumerate(labels or [TARGET]):
        columns[name] = rows[label_column(name) if number else TARGET]
    for name in (*SUBTYPES, *IDENTITIES, *ANNOTATOR_COUNTS):
        if not columns.keys() & NAMES[name] and rows[name].null_count < len(rows):
            columns[name] = rows[name]
    return pa.table(columns)


def _without_data(argv: Sequence[str]) -> tuple[Path, list[str]]:
    """The recipe of a command line, and its flags without those that name the data."""
    has_recipe = bool(argv) and not argv[0].startswith("-")
    kept, keep = [], True
    for part in argv[has_recipe:]:
        if flag := re.match(r"--([^=]+)", part):
            keep = flag[1].replace("-", "_") not in DATA_KEYS
        if keep:
            kept.append(part)
    return Path(argv[0]) if has_recipe else SAMPLE_RECIPE, kept


def _recipe_without_data(recipe: Path) -> dict[str, object]:
    left_out = {*DATA_KEYS, *SAMPLE_KEYS, "identity_terms", *NOT_FOR_FOLDS}
    found = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    return {key: value for key, value in found.items() if key not in left_out}


def _settings_of_sample(arguments: Arguments) -> list[str]:
    """As flags, what the default recipe has for its own comments alone, as far as it applies to these."""
    # The copy of a recipe names no data by which that could be told.
    given = vars(arguments.data) | vars(arguments.objective)
    names = ["max_seq_length", "init_head_bias"]
    if given["counterfactuals"]:
        names += ["counterfactuals", "counterfactual_pairing", "identity_terms"]
    return [part for name in names if given[name] is not None for part in (f"--{name}", str(given[name]))]


def _require_same(output: Path, request: dict[str, object]) -> None:
    """Note what is trained on with which flags; raise `RequestError` if `output` has a note of anything else."""
    note = output / "request.json"
    if not note.exists():
        write_text(note, json.dumps(request))
    elif json.loads(note.read_text(encoding="utf-8")) != request:
        raise RequestError(f"{output} holds an audit of other comments or with other flags: name another --output.")


def _run(argv: list[str], which: str) -> None:
    """Train in a process of its own, what it prints going to standard error; a SIGTERM is handed on to it."""
    # As standard output is for the audit alone. Where no checkpoint is, `auto` starts from the beginning.
    command = [sys.executable, str(SCRIPT), *argv, "--resume_from_checkpoint", "auto"]
    with subprocess.Popen(command, stdout=2) as process:
        before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        try:
            code = process.wait()
        finally:
            signal.signal(signal.SIGTERM, before)
    again = "Start the same command again: what is complete is not trained again."
    if code == EXIT_REFUSED:
        raise RequestError(f"{which} cannot be trained; the line above says why.")
    if code in (EXIT_INTERRUPTED, -signal.SIGTERM):
        raise Interrupted(f"The training for {which} was interrupted. {again}")
    if code == EXIT_CTRL_C:
        raise KeyboardInterrupt(f"Interrupted by Ctrl-C in the training for {which}. {again}")
    if code:
        raise RunFailure(f"the training for {which} ended with code {code}. {again}")
