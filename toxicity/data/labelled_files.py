"""Files of labelled comments, read and checked: where they are, which columns of them count, and what is left out."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa

from toxicity.core.arguments import DataArguments
from toxicity.core.console import printable
from toxicity.core.errors import RequestError
from toxicity.core.schema import TARGET, canonical_columns
from toxicity.data.addresses import list_data_files, local_copy, local_folder, without_credentials
from toxicity.data.hub_datasets import read_saved_split, saved_splits
from toxicity.data.readers.base import ChooseColumns, Layout
from toxicity.data.readers.encodings import with_likely_encoding
from toxicity.data.readers.files import read_files
from toxicity.data.readers.names import without_packing
from toxicity.data.row_checks import check_rows

# Columns by which some files hold several parts of the data, in lower case, and the names of such parts.
PARTS_COLUMNS = ("split", "set", "fold", "partition", "subset", "data_split", "dataset_split")
PARTS = re.compile(r"(train|training|dev|val|valid|validation|eval|test|testing|holdout|(public|private)_?\w*)", re.I)
NOT_SCORED = "nobody scored it (its target is -1)"

logger = logging.getLogger(__name__)


@dataclass
class Source:
    """All rows of a source under canonical column names.

    `bad_rows` gives the reason for each row that cannot be used by its number from 0, and `files` the name and number
    of rows of each file, in their order. `unscored` are the numbers of rows whose target says that nobody scored them,
    ascending, int64; they are no part of the data, and none of them is bad. `absent` gives the reason for each
    subtype, identity or annotator count that the source has and that cannot be used; its values are null. `unmatched`
    has a sentence for each value of `--positive_labels` that no row has.
    """

    name: str
    table: pa.Table
    bad_rows: dict[int, str]
    files: list[tuple[str, int]]
    unscored: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    absent: dict[str, str] = field(default_factory=dict)
    unmatched: dict[str, str] = field(default_factory=dict)

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


def read_file(address: str, arguments: DataArguments, flag: str = "--train_file") -> Source:
    """The comments of a file, a folder, a pattern or a URL, with the column names of any published dataset.

    Args:
        address: as `list_data_files` takes it; or a folder that `Dataset.save_to_disk` wrote.
        arguments: names of columns, toxic labels, and the layout of files of text.
        flag: what named the address, for messages.

    Raises:
        RequestError: for what cannot be found or read, and for missing columns, naming those that are there.
    """
    name, found = name_of(address), {}
    folder = local_folder(address) if address else None
    if folder is not None and saved_splits(folder):
        table = read_saved_split(folder, chooser(arguments, found))
        return checked_source(name, table, [(str(folder), len(table))], arguments, found)
    files = list_data_files(address, flag)
    _require_each_once([file.name for file in files], name, flag)
    with ExitStack() as copies:
        paths = [copies.enter_context(local_copy(file)) for file in files]
        addresses = {str(path): file.address for path, file in zip(paths, files, strict=True)}
        table, counts, broken = read_files(
            paths, chooser(arguments, found, addresses), Layout(arguments.delimiter, arguments.encoding)
        )
    counts = [(addresses.get(path, path), rows) for path, rows in counts]
    return checked_source(name, table, counts, arguments, found, broken)


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


def chooser(
    arguments: DataArguments, found: dict[str, str], addresses: Mapping[str, str] | None = None
) -> ChooseColumns:
    """What picks the columns of a file: those with canonical names, and those that may tell parts of the data apart.

    Args:
        arguments: names of columns.
        found: takes what was picked, canonical name → name in the source, of its first file that has the column.
        addresses: the address of a file by the name under which it is read, if that is another.
    """

    def choose(names: list[str], file: str) -> dict[str, str]:
        source = (addresses or {}).get(file, file)
        columns = canonical_columns(names, source, arguments.text_column_name, arguments.label_column_name)
        for canonical, name in columns.items():
            found.setdefault(canonical, name)
        others = {name.strip().casefold(): name for name in names if name not in columns.values()}
        return columns | {name: others[name] for name in PARTS_COLUMNS if name in others}

    return choose


def checked_source(
    name: str,
    table: pa.Table,
    files: list[tuple[str, int]],
    arguments: DataArguments,
    found: Mapping[str, str],
    broken: Mapping[int, str] | None = None,
) -> Source:
    """The rows that were read as a `Source`; tells what of them is not used.

    Args:
        name: what the source is called.
        table: the columns that `chooser` picked.
        files: as in `Source`.
        arguments: the toxic labels.
        found: as in `chooser`.
        broken: as in `check_rows`.

    Raises:
        RequestError: as `check_rows`.
    """
    for column in PARTS_COLUMNS:
        if column in table.column_names:
            _tell_of_parts(name, column, table[column])
            table = table.drop_columns([column])
    target_name = found.get(TARGET, TARGET)
    checked = check_rows(table, name, dict(broken or {}), arguments.positive_labels, target_name)
    if unscored := len(checked.unscored):
        logger.info(f"Left out of {name}: {unscored:,} rows: {NOT_SCORED}.")
    return Source(name, checked.table, checked.bad_rows, files, checked.unscored, checked.absent, checked.unmatched)


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
