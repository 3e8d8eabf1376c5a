"""Labelled comments of other sources, which a trained model is judged on in the end."""

from __future__ import annotations

import logging

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset
from datasets.fingerprint import generate_random_fingerprint

from toxicity.core.arguments import DataArguments
from toxicity.core.console import quoted
from toxicity.core.errors import RequestError
from toxicity.core.evaluation_arguments import EVAL_FILES
from toxicity.core.schema import TARGET, TEXT, label_column
from toxicity.data.label_columns import Chosen, LabelNames
from toxicity.data.labelled_files import checked_source, chooser, layout_of, read_rows, refuse_or_warn
from toxicity.data.memory_map import take_to_disk

logger = logging.getLogger(__name__)


def read_eval_files(arguments: DataArguments, labels: LabelNames, trained: pa.ChunkedArray) -> dict[str, Dataset]:
    """The comments of each of `--eval_files`, by the name that was given to it.

    They are read as those to train on, with the same names of columns, labels and treatment of bad rows. A file must
    have the main label; where it has no column of another one, that label is null.

    Args:
        arguments: the files, names of columns, labels, and the layout of files of text.
        labels: those of the training rows.
        trained: the texts that are trained on; of those that a file has too, a warning is logged.

    Returns:
        Rows with `text`, `target` and a column for each label but the main one, of the types of `Splits`.

    Raises:
        RequestError: for a file that cannot be found or read, has no text or no main label, or bad rows that are not to
            be dropped. It says which of the files it is about.
    """
    read = {}
    for name, address in arguments.eval_addresses.items():
        try:
            table = _read(address, arguments, labels)
        except RequestError as error:
            both = " That flag is about the training file, too: where the names differ, rename the column here."
            hint = both if arguments.train_file and "_column_name" in str(error) else ""
            raise RequestError(f"{EVAL_FILES} {name}: {error}{hint}") from error
        shared = pc.sum(pc.is_in(table[TEXT], value_set=trained.combine_chunks())).as_py()
        if shared:
            logger.warning(
                f"{EVAL_FILES} {name}: {shared:,} of its {len(table):,} comments are trained on, too, on which the "
                "model looks better than it is."
            )
        read[name] = Dataset(table, fingerprint=generate_random_fingerprint())
    return read


def _read(address: str, arguments: DataArguments, labels: LabelNames) -> pa.Table:
    found: dict[str, Chosen] = {}
    rows = read_rows(address, chooser(arguments, found), layout_of(arguments), EVAL_FILES)
    source = checked_source(rows, arguments, found, labels, may_lack_labels=True)
    # Where none of the classes is there that mean toxic, the labels may be written in another way.
    if source.unmatched and len(source.unmatched) == len(set(arguments.positive_labels or ())):
        raise RequestError(next(iter(source.unmatched.values())))
    refuse_or_warn(source, arguments)
    kept = source.scored_rows()
    table = take_to_disk(source.table, kept[~np.isin(kept, list(source.bad_rows))])
    if table[TARGET].null_count == len(table):
        raise RequestError(
            f"none of the {len(source.table):,} rows of {source.name} has a value of the label "
            f"{quoted(labels.names[0])}, by which the model is judged. Give a file with labels."
        )
    for name in map(label_column, labels.names[1:]):
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(len(table), pa.float64()))
    return table.select([TEXT, TARGET, *map(label_column, labels.names[1:])])
