"""Challenge sets: files of texts, each with whether it is toxic and with words that say what it tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from toxicity.core.console import quoted
from toxicity.core.errors import RequestError
from toxicity.core.schema import NAMES, TARGET, TEXT, find_columns, hard_labels, listed
from toxicity.data.labelled_files import Source, read_rows
from toxicity.data.labels import toxicity_of, with_rows
from toxicity.data.readers.base import Layout, text_as_bytes
from toxicity.data.row_checks import check_comments
from toxicity.data.text import decoded
from toxicity.data.values import MISSING, kind_of, read_values


class Column(NamedTuple):
    """A column of such a file: what it holds, for messages; its names, which are tried in order; whether the file
    must have it, and then in every row.
    """

    what: str
    names: Sequence[str]
    needed: bool = True


FUNCTIONALITY, TARGET_GROUP, TERM = "functionality", "target_group", "term"
# As Röttger et al. 2021 published HateCheck, and those after them its versions in other languages.
HATECHECK = {
    TEXT: Column("case", ("test_case",)),
    TARGET: Column("label", ("label_gold",)),
    FUNCTIONALITY: Column("functionality", ("functionality",)),
    TARGET_GROUP: Column("target group", ("target_ident",), needed=False),
}
# As in the madlibs of Dixon et al. 2018 (Text, Label), which have no column of terms, and what their authors made since
# (phrase, toxicity).
TEMPLATES = {
    TEXT: Column("sentence", ("text", "phrase", "sentence", "comment_text")),
    TARGET: Column("label", ("label", *(name for name in NAMES[TARGET] if name != "label"))),
    TERM: Column("term", ("term", "template_term", "identity_term", "identity"), needed=False),
}
# The labels of the madlibs. Among the labels of comments to train on, "bad" would not say of what kind.
BAD, NOT_BAD = "bad", "not_bad"


class Texts(NamedTuple):
    """Texts, whether each is toxic (bool, `(texts,)`), and by name of a column its word for each text, `""` for none.

    Of the columns that are not needed only those are there that the file has. `name` is that of the file.
    """

    name: str
    texts: list[str]
    toxic: np.ndarray
    words: dict[str, list[str]]


def read_texts(address: str, flag: str, columns: Mapping[str, Column], encoding: str | None = None) -> Texts:
    """Read texts with their labels, in any format that comments are read in.

    Args:
        address: as `list_data_files` takes it.
        flag: what named it, for messages.
        columns: the text as `schema.TEXT`, the label as `schema.TARGET`, and columns of words. Labels are what
            `toxicity_of` reads, such as hateful and non-hateful, BAD and NOT_BAD, or 0 and 1; shares are toxic from 0.5
            on.
        encoding: of a file of text, as Python names it; by default its byte order mark says it, or it is UTF-8.

    Raises:
        RequestError: for what cannot be found or read, columns that are missing, naming those that are there, labels
            of unknown meaning, and rows without a text, a label or a word that is needed.
    """
    headers: dict[str, str] = {}

    def choose(names: list[str], file: str) -> dict[str, str]:
        chosen = _chosen(names, file, flag, columns)
        headers.update(chosen)
        return chosen

    rows = read_rows(address, choose, Layout(encoding=encoding), flag)
    if not len(rows.table):
        raise RequestError(f"{rows.name} holds no rows: give {flag} a file of texts and labels.")
    where = {column: f"{rows.name}: the column {quoted(header)}" for column, header in headers.items()}
    as_bytes = {name: _as_bytes(rows.table[name], where[name]) for name in headers if name != TARGET}
    comments, faults = check_comments(pa.table({TEXT: as_bytes.pop(TEXT)}), rows.name, dict(rows.broken))
    toxic, label_faults = _labels(rows.table[TARGET], rows.name, headers[TARGET], where[TARGET])
    words = {name: _words(column) for name, column in as_bytes.items()}
    missing = [
        (np.array([not word for word in found]), f"the {columns[name].what} is missing")
        for name, found in words.items()
        if columns[name].needed
    ]
    # In messages about comments to train on a label is the target, which here would be taken for a target group.
    label_faults = [(bad, reason.replace("the target", f"the {columns[TARGET].what}")) for bad, reason in label_faults]
    for bad, reason in (*label_faults, *missing):
        faults |= {row: reason for row in np.flatnonzero(bad).tolist() if row not in faults}
    if faults:
        first = Source(rows.name, rows.table, dict(sorted(faults.items())), rows.files).first_bad_row(encoding)
        raise RequestError(f"{first}. Bad rows in all: {len(faults):,}. Mend them or take them out.")
    return Texts(rows.name, comments[TEXT].to_pylist(), toxic, words)


def _chosen(names: list[str], file: str, flag: str, columns: Mapping[str, Column]) -> dict[str, str]:
    chosen: dict[str, str] = {}
    for name, column in columns.items():
        found = find_columns(column.names, [other for other in names if other not in chosen.values()])
        if len(found) > 1:
            raise RequestError(
                f"{file}: {' and '.join(map(quoted, found))} may both be the {column.what}: rename one of them."
            )
        if found:
            chosen[name] = found[0]
        elif column.needed:
            raise RequestError(
                f"{file} has no column {' or '.join(column.names[:3])}, in which {flag} has the {column.what}; "
                f"it has {listed(names) or 'none'}. Name another file, or rename its column to {column.names[0]}."
            )
    return chosen


def _as_bytes(column: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
    as_bytes = text_as_bytes(column)
    if as_bytes is None:
        raise RequestError(f"{where} holds no text but {column.type}: write text there.")
    return as_bytes


def _labels(
    column: pa.ChunkedArray, source: str, header: str, where: str
) -> tuple[np.ndarray, list[tuple[np.ndarray, str]]]:
    """Whether each row is toxic, bool `(rows,)`, and bad rows with the reason."""
    values = read_values(column)
    words = {word.casefold() for word in (values and values.words) or ()}
    try:
        found = toxicity_of(column, source, header, [BAD] if words and words <= {BAD, NOT_BAD} else None)
    except RequestError as error:
        # That message names flags of a training run.
        held = kind_of(column) if values is None else with_rows(values.counts())
        raise RequestError(
            f"{where} holds {held}, of which nobody can tell what is toxic. Write 1 for toxic and 0 for civil there."
        ) from error
    return hard_labels(found.shares.to_numpy(zero_copy_only=False)) > 0, found.faults


def _words(column: pa.ChunkedArray) -> list[str]:
    words = [(word or "").strip() for word in decoded(column)[0].to_pylist()]
    return ["" if word.casefold() in MISSING else word for word in words]
