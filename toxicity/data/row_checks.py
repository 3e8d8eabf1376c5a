"""Checks of the rows that were read: columns get their canonical types, and each unusable row a reason."""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from toxicity.core.errors import RequestError
from toxicity.core.schema import ANNOTATOR_COUNTS, ID, IDENTITIES, SUBTYPES, TARGET, TEXT, label_column
from toxicity.data.ids import ids_as_they_are, ids_of_training_rows
from toxicity.data.label_columns import LabelNames, Request
from toxicity.data.readers.base import text_as_bytes
from toxicity.data.several_labels import read_labels
from toxicity.data.text import decoded
from toxicity.data.values import optional_shares

logger = logging.getLogger(__name__)

# Over a hundred times the longest published comment: such a text comes from a file of another kind, or merged rows.
MAX_COMMENT_BYTES = 1_000_000
TARGET_ALONE = Request()


class CheckedRows(NamedTuple):
    """Rows under canonical column names, and what is wrong with them.

    `table` has all columns of `schema.NAMES` (for the types see `sources.Splits`; null where a value is missing or
    unreadable). `bad_rows` gives for each row that training cannot use, by ascending number from 0, the first reason
    found. `unscored` are the numbers, int64 and ascending, of rows whose toxicity was never judged, which is no fault.
    `absent` gives for each column other than text, toxicity and id that the source has and that cannot be used, why:
    it is null in all rows. `unmatched` has a sentence for each positive label that no row has. `labels` are those to
    learn: the main one is in `target`, and each other one in its `schema.label_column`.
    """

    table: pa.Table
    bad_rows: dict[int, str]
    unscored: np.ndarray
    absent: dict[str, str]
    unmatched: dict[str, str]
    labels: LabelNames


def check_rows(
    table: pa.Table,
    source: str,
    broken: dict[int, str] | None = None,
    request: Request = TARGET_ALONE,
    unlabelled: np.ndarray | None = None,
) -> CheckedRows:
    """Convert the columns to their canonical types and find the rows that training cannot use.

    Args:
        table: columns under canonical names, at least `text` and the main label; text as strings or bytes, numbers
            as numbers or as text. For columns of labels see `label_columns.columns_of_labels`.
        source: what the table was read from, for error messages.
        broken: rows that the reader found to be broken, numbered from 0, with the reason.
        request: what is wanted of the labels; by default one, the column `target`.
        unlabelled: rows that nobody gave a label, which is no fault, bool `(rows,)`.

    Raises:
        RequestError: if the table is empty, the text is none, or the toxicity says nothing that training could use.
    """
    if not len(table):
        raise RequestError(f"{source} holds no rows, which leaves every split empty.")
    reasons = dict(broken or {})
    text = _checked_text(table[TEXT], source, reasons)
    id_column = table[ID] if ID in table.column_names else None
    columns = {ID: ids_of_training_rows(id_column, len(table), source, len(broken or {})), TEXT: text}
    labels = read_labels(table, source, request)
    main, *others = labels.shares
    columns[TARGET] = labels.shares[main]
    for rows, reason in labels.faults:
        _mark_bad(reasons, rows, reason)
    unscored = labels.unscored if unlabelled is None else labels.unscored | unlabelled
    absent: dict[str, str] = {}
    for name in (*SUBTYPES, *IDENTITIES, *ANNOTATOR_COUNTS):
        counts = name in ANNOTATOR_COUNTS
        type_, values = pa.int32() if counts else pa.float32(), None
        if name in labels.subtypes:
            values = labels.shares[labels.subtypes[name]]
        elif name in table.column_names:
            most = 2**31 - 1 if counts else 1
            values, fault = optional_shares(table[name], unscored, most, whole=counts)
            if fault:
                logger.warning(f"{source}: the column `{name}` is not used, as {fault}.")
                absent[name] = fault
        columns[name] = pa.nulls(len(table), type_) if values is None else values.cast(type_)
    columns |= {label_column(name): labels.shares[name] for name in others}
    for row in np.flatnonzero(unscored).tolist():
        reasons.pop(row, None)
    bad_rows, numbers = dict(sorted(reasons.items())), np.flatnonzero(unscored)
    return CheckedRows(pa.table(columns), bad_rows, numbers, absent, labels.unmatched, labels.names)


def check_comments(
    table: pa.Table, source: str, broken: dict[int, str] | None = None, first_row: int = 0
) -> tuple[pa.Table, dict[int, str]]:
    """Find the rows of a part of a file that cannot be scored, by the rules that `check_rows` has for text and id.

    Repeated ids are not looked for: that would need all ids of the file in memory.

    Args:
        table: columns `text` and perhaps `id`.
        source: as in `check_rows`.
        broken: as in `check_rows`, numbered from 0 in the table.
        first_row: number of the table's first row in the file; row numbers are the ids of a file without ids.

    Returns:
        A table of `id` (for the types see `ids.ids_as_they_are`; int64 if the source has no ids) and `text`
        (large_string), null where unreadable, and for each bad row, by ascending number from 0 in the table, the first
        reason found. A missing id is none.

    Raises:
        RequestError: if a column has a type that cannot be converted.
    """
    reasons = dict(broken or {})
    text = _checked_text(table[TEXT], source, reasons)
    if ID in table.column_names:
        ids, undecodable = ids_as_they_are(table[ID], source)
        _mark_bad(reasons, undecodable, "the id is not UTF-8")
    else:
        ids = pa.chunked_array([pa.array(np.arange(first_row, first_row + len(table)))])
    return pa.table({ID: ids, TEXT: text}), dict(sorted(reasons.items()))


def _mark_bad(reasons: dict[int, str], bad: np.ndarray | pa.Array | pa.ChunkedArray, reason: str) -> None:
    """Note the reason for each row where `bad` is true (null is not), unless the row has one already."""
    if not isinstance(bad, np.ndarray):
        bad = pc.fill_null(bad, False).to_numpy(zero_copy_only=False)
    for row in np.flatnonzero(bad).tolist():
        reasons.setdefault(row, reason)


def _checked_text(column: pa.ChunkedArray, source: str, reasons: dict[int, str]) -> pa.ChunkedArray:
    as_bytes = text_as_bytes(column)
    if as_bytes is None:
        raise RequestError(
            f"{source}: the text column holds no text but {column.type}. Name another with --text_column_name."
        )
    _mark_bad(reasons, pc.is_null(as_bytes), "the text is missing")
    text, undecodable = decoded(as_bytes)
    _mark_bad(reasons, undecodable, "the text is not UTF-8")
    # Chunk by chunk, as trimming makes a copy of the text.
    blanks = [pc.equal(pc.utf8_trim_whitespace(chunk), "") for chunk in text.chunks]
    _mark_bad(reasons, pa.chunked_array(blanks, pa.bool_()), "the text is blank")
    _mark_bad(reasons, pc.match_substring(text, "\0"), "the text holds a NUL character")
    too_long = pc.greater(pc.binary_length(text), MAX_COMMENT_BYTES)
    _mark_bad(reasons, too_long, f"the text is longer than {MAX_COMMENT_BYTES:,} bytes")
    return text
