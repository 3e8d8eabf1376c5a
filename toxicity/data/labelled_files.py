"""Files of labelled comments, read and checked: where they are, which columns of them count, and what is left out."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from toxicity.core.arguments import DataArguments
from toxicity.core.console import printable
from toxicity.core.errors import RequestError
from toxicity.core.label_names import synonyms_of
from toxicity.core.schema import ID, LABEL_LISTS, NAMES, TARGET, canonical_columns, find_columns
from toxicity.data.addresses import list_data_files, local_folder
from toxicity.data.copies import local_copies
from toxicity.data.hub_datasets import read_saved_split, saved_splits
from toxicity.data.label_columns import FLAG, ONE_LABEL, Chosen, LabelNames, Request, columns_of_labels
from toxicity.data.labels import ONE_COLUMN
from toxicity.data.readers.base import ChooseColumns, Layout
from toxicity.data.readers.encodings import with_likely_encoding
from toxicity.data.readers.files import read_files
from toxicity.data.readers.names import without_packing
from toxicity.data.row_checks import check_rows
from toxicity.data.storage import without_credentials

# Columns by which some files hold several parts of the data, in lower case, and the names of such parts.
PARTS_COLUMNS = ("split", "set", "fold", "partition", "subset", "data_split", "dataset_split")
PARTS = re.compile(r"(train|training|dev|val|valid|validation|eval|test|testing|holdout|(public|private)_?\w*)", re.I)
NOT_SCORED = "nobody scored it (its target is -1)"
UNLABELLED = "nobody scored it (its id has no labels)"

logger = logging.getLogger(__name__)


@dataclass
class Source:
    """All rows of a source under canonical column names.

    `bad_rows` gives the reason for each row that cannot be used by its number from 0, and `files` the name and number
    of rows of each file, in their order. `unscored` are the numbers of rows whose target says that nobody scored them,
    ascending, int64; they are no part of the data, none of them is bad, and `left_out` counts them by reason. `absent`
    gives the reason for each subtype, identity or annotator count that the source has and that cannot be used; its
    values are null. `unmatched` has a sentence for each value of `--positive_labels` that no row has. `labels` are
    those to learn: the main one is the column `target`, and each other one its `schema.label_column`.
    """

    name: str
    table: pa.Table
    bad_rows: dict[int, str]
    files: list[tuple[str, int]]
    unscored: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    left_out: dict[str, int] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    unmatched: dict[str, str] = field(default_factory=dict)
    labels: LabelNames = ONE_LABEL

    def scored_rows(self) -> np.ndarray:
        """Numbers of the rows that belong to the data, ascending, int64; bad ones are among them."""
        return np.delete(np.arange(len(self.table)), self.unscored)

    def first_bad_row(self, encoding: str | None = None) -> str:
        """The file of the first bad row, the row's number there (1 is the first below the header), and the reason.

        With `encoding` it is known as what the file was read; where that is not right, the likely one is told.
        """
        row, reason = next(iter(self.bad_rows.items()))
        starts = np.cumsum([0, *(rows for _, rows in self.files)])
        number = int(np.searchsorted(starts, row, side="right")) - 1
        file = self.files[number][0]
        return f"{file}, row {row - starts[number] + 1:,}: {with_likely_encoding(reason, file, encoding)}"


class Rows(NamedTuple):
    """What was read of a source, not checked yet: its name, columns under the names that were chosen, the name and
    number of rows of each file, and the reason for each broken row by its number.
    """

    name: str
    table: pa.Table
    files: list[tuple[str, int]]
    broken: Mapping[int, str]


def read_file(
    address: str, arguments: DataArguments, flag: str = "--train_file", known: LabelNames | None = None
) -> Source:
    """The comments of a file, a folder, a pattern or a URL, with the column names of any published dataset.

    Args:
        address: as `list_data_files` takes it; or a folder that `Dataset.save_to_disk` wrote.
        arguments: names of columns, toxic labels, and the layout of files of text.
        flag: what named the address, for messages.
        known: the labels of the training rows, if these are others.

    Raises:
        RequestError: for what cannot be found or read, and for missing columns, naming those that are there.
    """
    found: dict[str, Chosen] = {}
    choose = chooser(arguments, found)
    if known is not None:
        choose = _pointing_to_labels(choose, arguments)
    rows = read_rows(address, choose, layout_of(arguments), flag)
    return checked_source(rows, arguments, found, known)


def layout_of(arguments: DataArguments) -> Layout:
    """The layout of files of text that the arguments name."""
    return Layout(arguments.delimiter, arguments.encoding)


def read_rows(address: str, choose: ChooseColumns, layout: Layout, flag: str) -> Rows:
    """Read the columns that are chosen of an address, as `read_file` takes it, in this layout.

    Raises:
        RequestError: as `read_file`.
    """
    name = name_of(address)
    folder = local_folder(address) if address else None
    if folder is not None and saved_splits(folder):
        table = read_saved_split(folder, choose)
        return Rows(name, table, [(str(folder), len(table))], {})
    files = list_data_files(address, flag)
    _require_each_once([file.name for file in files], name, flag)
    with local_copies(files) as paths:
        addresses = {str(path): file.address for path, file in zip(paths, files, strict=True)}
        table, counts, broken = read_files(
            paths,
            lambda names, file: choose(names, addresses.get(file, file)),
            layout,
        )
    return Rows(name, table, [(addresses.get(path, path), rows) for path, rows in counts], broken)


def _require_each_once(names: list[str], source: str, flag: str) -> None:
    """Raise `RequestError` if a file is there packed and unpacked, as `unzip` leaves it."""
    seen: dict[str, str] = {}
    for name in names:
        if (other := seen.setdefault(without_packing(name), name)) != name:
            raise RequestError(
                f"{source} holds {printable(other, 200)} and {printable(name, 200)}, which would count every comment "
                f"twice: name one of them as {flag}, or remove one."
            )


def name_of(address: str) -> str:
    """What the comments at an address are called: the name of the file or folder, as it was before it was packed."""
    # What is there by that very name is a path and no chain of links.
    *links, last = [address] if os.path.lexists(address) else without_credentials(address).split("::")
    # The links of simplecache::zip://::ARCHIVE.zip but the last are a way of opening the next one, and a folder in it.
    paths = [link.partition("://")[2] for link in links] + [last.rpartition("://")[2]]
    name = next(filter(None, (PurePosixPath(path).name for path in paths)), address)
    # train.csv.zip is the same data as the train.csv in it.
    return without_packing(printable(name, 300))


def chooser(arguments: DataArguments, found: dict[str, Chosen], wanted: Sequence[str] = tuple(NAMES)) -> ChooseColumns:
    """What picks the columns of a file: those with canonical names, those of labels, and those that may tell parts of
    the data apart.

    Args:
        arguments: names of columns.
        found: takes what was picked of each file.
        wanted: the canonical names to look for.
    """

    def choose(names: list[str], file: str) -> dict[str, str]:
        text_name, label_name = arguments.text_column_name, arguments.label_column_name
        if arguments.label_column_names:
            columns = columns_of_labels(names, file, arguments.label_column_names, text_name, wanted)
        else:
            columns = canonical_columns(names, file, text_name, label_name, wanted=wanted)
            if label_name:
                columns = {LABEL_LISTS if name == TARGET else name: column for name, column in columns.items()}
        found[file] = Chosen(names, columns)
        others = {name.strip().casefold(): name for name in names if name not in columns.values()}
        return columns | {name: others[name] for name in PARTS_COLUMNS if name in others}

    return choose


def _pointing_to_labels(choose: ChooseColumns, arguments: DataArguments) -> ChooseColumns:
    """The same choice for validation comments; where these have ids and no labels, the refusal tells of their flag."""
    asked = arguments.label_column_names or filter(None, [arguments.label_column_name])
    labels = [*NAMES[TARGET], *(other for name in asked for other in (name, *synonyms_of(name)))]

    def choose_or_point(names: list[str], file: str) -> dict[str, str]:
        try:
            return choose(names, file)
        except RequestError as error:
            if not find_columns((ID,), names) or find_columns(labels, names):
                raise
            advice = "If another file has the labels of these ids, name it with --validation_labels_file."
            raise RequestError(f"{error} {advice}") from error

    return choose_or_point


def checked_source(
    rows: Rows,
    arguments: DataArguments,
    found: Mapping[str, Chosen],
    known: LabelNames | None = None,
    unlabelled: np.ndarray | None = None,
    may_lack_labels: bool = False,
) -> Source:
    """The rows that were read as a `Source`; tells what of them is not used.

    Args:
        rows: the columns that `chooser` picked.
        arguments: the labels.
        found: as in `chooser`.
        known: as in `read_file`.
        unlabelled: as in `check_rows`.
        may_lack_labels: as in `Request`.

    Raises:
        RequestError: as `check_rows`.
    """
    name, table, files, broken = rows
    for column in PARTS_COLUMNS:
        if column in table.column_names:
            _tell_of_parts(name, column, table[column])
            table = table.drop_columns([column])
    request = Request(arguments.label_column_names, arguments.positive_labels, known, found, may_lack_labels)
    checked = check_rows(table, name, dict(broken), request, unlabelled)
    without_labels = 0 if unlabelled is None else int(unlabelled.sum())
    left_out = {NOT_SCORED: len(checked.unscored) - without_labels, UNLABELLED: without_labels}
    for reason, count in left_out.items():
        if count:
            logger.info(f"Left out of {name}: {count:,} rows: {reason}.")
    return Source(name, checked.table, checked.bad_rows, files, checked.unscored, left_out, *checked[3:])


def refuse_or_warn(source: Source, arguments: DataArguments) -> None:
    """Raise `RequestError` for bad rows of a source, or tell of them where they are to be left out."""
    if not source.bad_rows:
        return
    if arguments.on_bad_rows == "drop":
        for reason, rows in Counter(source.bad_rows.values()).items():
            logger.warning(f"Left out of {source.name}: {rows:,} rows: {reason}.")
        return
    raise RequestError(
        f"{source.first_bad_row(arguments.encoding)}. Bad rows in all: {len(source.bad_rows):,}. "
        "Mend them, leave them out and have them counted (--on_bad_rows drop), "
        f"or name other columns (--text_column_name, {FLAG if arguments.label_column_names else ONE_COLUMN})."
    )


def _tell_of_parts(source: str, column: str, values: pa.ChunkedArray) -> None:
    """Log a warning if a column names parts of the data, such as `train` and `test`: nothing here heeds them."""
    counts: Counter[str] = Counter()
    for count in values.value_counts().to_pylist():
        value = count["values"]
        counts[value.decode(errors="replace") if isinstance(value, bytes) else str(value)] += count["counts"]
    if any(map(PARTS.fullmatch, counts)) or (column == "fold" and 1 < len(counts) <= 100):
        shares = ", ".join(f"{value}: {rows:,}" for value, rows in counts.most_common(5))
        logger.warning(
            f"{source}: its column `{column}` is not used, and all rows are taken alike ({shares}). "
            "Give the parts as --train_file and --validation_file."
        )
