"""Which columns of a source are the labels to learn, and what the labels are called."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from toxicity.core.console import log_once, printable, quoted
from toxicity.core.errors import RequestError
from toxicity.core.label_names import ALL_SUBTYPES, LABELS_2018, synonyms_of
from toxicity.core.schema import (
    ANNOTATOR_COUNTS,
    IDENTITIES,
    LABEL,
    LABEL_LISTS,
    NAMES,
    SUBTYPES,
    TARGET,
    TEXT,
    canonical_columns,
    find_columns,
    label_column,
    letters_of,
    listed,
    missing_column,
)

logger = logging.getLogger(__name__)

FLAG = "--label_column_names"
# The subtypes that the competition of 2018 had, in its order.
SUBTYPES_2018 = tuple(subtype for name in LABELS_2018 for subtype in SUBTYPES if name in NAMES[subtype])


class Chosen(NamedTuple):
    """The names of all columns of a file, and of those that are read: name in the table → name in the file."""

    names: list[str]
    columns: dict[str, str]


class LabelNames(NamedTuple):
    """The labels to learn, the main one first, and how the training rows have them.

    `main_is_any` if the column is one of lists, and the main label holds where any class that is toxic does;
    `by_class` are the labels whose columns have classes of which `--positive_labels` are the toxic ones.
    """

    names: tuple[str, ...] = (LABEL,)
    main_is_any: bool = False
    by_class: tuple[str, ...] = ()


ONE_LABEL = LabelNames()


class Labels(NamedTuple):
    """The labels of each row.

    `shares` gives for each label, the main one first, float64 from 0 to 1, null where the value is missing or bad, or
    the row is `unscored`: bool `(rows,)`. `faults` are rows that are bad, bool `(rows,)`, each with the reason.
    `unmatched` has a sentence for each positive label that no row has. `subtypes` gives the label of each subtype
    whose column in the files is that of a label.
    """

    shares: dict[str, pa.Array | pa.ChunkedArray]
    faults: list[tuple[np.ndarray, str]]
    unscored: np.ndarray
    unmatched: dict[str, str]
    names: LabelNames
    subtypes: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Request:
    """What was asked of the labels of a source.

    `asked` are the names of `--label_column_names`, if it was given; `positive_labels` the values that mean toxic.
    `known` are the labels of the training rows, where these are other rows. `found` is what was chosen of each file.
    Of labels but the main one, no file need have a column if they `may_lack_labels`.
    """

    asked: Sequence[str] | None = None
    positive_labels: Sequence[str] | None = None
    known: LabelNames | None = None
    found: Mapping[str, Chosen] = field(default_factory=dict)
    may_lack_labels: bool = False

    def name_of(self, column: str) -> str:
        """What a column of the table is called in the first file that has it."""
        return next((file.columns[column] for file in self.found.values() if column in file.columns), column)

    def labelled_subtypes(self, columns: Mapping[str, str]) -> dict[str, str]:
        """The subtypes whose column is that of a label: subtype → label. `columns`: label → column of the table."""
        return {
            subtype: label
            for label, column in columns.items()
            for subtype in SUBTYPES
            if subtype == column or self._are_one(subtype, column)
        }

    def _are_one(self, subtype: str, column: str) -> bool:
        """Whether a subtype and a column of the table are the same column of each file that has the subtype."""
        files = [file.columns for file in self.found.values() if subtype in file.columns]
        return bool(files) and all(file[subtype] == file.get(column) for file in files)


def columns_of_labels(
    names: list[str],
    source: str,
    asked: Sequence[str],
    text_name: str | None = None,
    wanted: Sequence[str] = tuple(NAMES),
) -> dict[str, str]:
    """Match the columns of a file to the canonical names and to the labels that were asked for.

    A label goes by its own name, as `canonical_columns` matches it, or else by another that the competitions have for
    it. Its column may be a subtype, too. Only the main label must be there: of the others another file may tell.

    Args:
        names: the columns of the file.
        source: its name, for messages.
        asked: as in `Request`.
        text_name: the column of the comment.
        wanted: the canonical names to look for.

    Returns:
        Name in the table → name in the file. The main label is `LABEL_LISTS` where it is the only one that was asked
        for, else `TARGET`, and each other one its `label_column`.

    Raises:
        RequestError: if the text or the main label is missing, two columns have as good a claim to be a label, or one
            is two labels.
    """
    main = LABEL_LISTS if len(asked) == 1 else TARGET
    labels: dict[str, str] = {}
    for number, name in enumerate(asked):
        if name == ALL_SUBTYPES:
            continue
        # What another label is called exactly is the column of that one.
        found = find_columns((name,), [column for column in names if column == name or column not in asked])
        if not found and (found := find_columns(synonyms_of(name), names)) and letters_of(found[0]) != TARGET:
            log_once(logging.INFO, f"The label {quoted(name)} is the column {quoted(found[0])}.")
        if len(found) > 1:
            raise RequestError(
                f"{source}: {' and '.join(map(quoted, found))} may both be the label {quoted(name)}: "
                f"write it in {FLAG} as one of them is written, or rename the other."
            )
        if found:
            labels[label_column(name) if number else main] = found[0]
        elif not number:
            raise RequestError(missing_column((name,), "label", FLAG, names, names, source))
    doubles = [column for column in labels.values() if [*labels.values()].count(column) > 1]
    if doubles:
        raise RequestError(f"{source}: {FLAG} names the column {quoted(doubles[0])} twice: name each label once.")
    texts = (text_name,) if text_name else NAMES[TEXT]
    free = [name for name in names if name not in labels.values()]
    if TEXT in wanted and not find_columns(texts, free) and (both := find_columns(texts, [*labels.values()])):
        raise RequestError(
            f"{source}: the column {quoted(both[0])} cannot be both the text and a label. Leave it out of {FLAG}, or "
            "name another column as the text with --text_column_name."
        )
    optional = (*SUBTYPES, *IDENTITIES, *ANNOTATOR_COUNTS)
    needed = [name for name in wanted if name not in optional and (name != TARGET or asked[0] == ALL_SUBTYPES)]
    columns = canonical_columns(names, source, text_name, wanted=needed, labels=labels.values(), label_flag=FLAG)
    return labels | columns | canonical_columns(names, source, wanted=[name for name in wanted if name in optional])


def labels_in(table: pa.Table, source: str, request: Request) -> dict[str, str]:
    """The labels of a table that was read, each with the column of the table that holds it.

    `subtypes` stands for those that have a value somewhere, or for those that the training rows have; where it comes
    first, toxicity is the main label. They go by the names of 2019, or by those of the file if that calls toxicity
    `toxic`, as the competition of 2018 did.

    Raises:
        RequestError: if no file of the source has a column that a label needs.
    """
    asked = request.asked or ()
    toxic = LABELS_2018[0]
    of_2018 = letters_of(request.name_of(TARGET)) == toxic
    labels: dict[str, str] = {}
    for number, name in enumerate(asked):
        if name != ALL_SUBTYPES:
            labels[name] = label_column(name) if number else TARGET
            continue
        if not number:
            labels[toxic if of_2018 else "toxicity"] = TARGET
        same = {subtype for subtype in SUBTYPES for other in asked if synonyms_of(other) == NAMES[subtype]}
        for subtype in dict.fromkeys((*SUBTYPES_2018, *SUBTYPES)) if of_2018 else SUBTYPES:
            if subtype in table.column_names and subtype not in same and _has_values(table[subtype]):
                labels[_name_of_subtype(subtype, request) if of_2018 else subtype] = subtype
    if request.known is not None and ALL_SUBTYPES in asked:
        labels = {name: labels.get(name) or _column_of(name) for name in request.known.names}
    if request.may_lack_labels and (lacking := [name for name in labels if labels[name] not in table.column_names]):
        logger.info(f"{source}: there is no column of {', '.join(map(quoted, lacking))}, which is not measured there.")
        labels = {name: column for name, column in labels.items() if name not in lacking}
    for name, column in labels.items():
        if column not in table.column_names:
            raise RequestError(_lacking(name, source, request))
        without = [file for file, chosen in request.found.items() if column not in chosen.columns]
        if without:
            shown = printable(without[0], 4096)
            logger.info(f"The label {quoted(name)} is null in the files that have no such column, as in {shown}.")
    if ALL_SUBTYPES in asked and request.known is None:
        logger.info(f"{source}: the labels to learn are {', '.join(labels)}.")
    return labels


def _has_values(column: pa.ChunkedArray) -> bool:
    values = column.drop_null()
    return len(values) > 0 and not (pa.types.is_floating(values.type) and pc.all(pc.is_nan(values)).as_py())


def _name_of_subtype(subtype: str, request: Request) -> str:
    """The name of a subtype in the files, if it is a published one, else the one of 2018."""
    name = request.name_of(subtype)
    return name if name in NAMES[subtype] else NAMES[subtype][-1]


def _column_of(name: str) -> str:
    """The column of a label of the training rows that these rows have no value of."""
    group = synonyms_of(name)
    return next((subtype for subtype in SUBTYPES if NAMES[subtype] == group), TARGET)


def _lacking(name: str, source: str, request: Request) -> str:
    files = [request.found[source]] if source in request.found else [*request.found.values()]
    names = [*dict.fromkeys(name for file in files for name in file.names)]
    if request.known is not None and name not in request.asked:
        return (
            f"{source} has no column of the label {quoted(name)}, which the training rows have; it has "
            f"{listed(names)}. Name the labels that both have with {FLAG}."
        )
    return missing_column((name,), "label", FLAG, names, names, source)
