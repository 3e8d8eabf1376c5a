"""The labels of each row, read together: one column, columns of several labels, or a column of lists of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from toxicity.core.console import quoted
from toxicity.core.errors import RequestError
from toxicity.core.schema import LABEL, LABEL_LISTS, SUBTYPES, TARGET, polarity
from toxicity.data.label_columns import FLAG, Labels, Request, labels_in
from toxicity.data.label_lists import as_single_values, read_lists
from toxicity.data.labels import shares_of, toxicity_of, values_of_label, without
from toxicity.data.values import Values, plain_shares

NO_LABEL = "no label has a value"

logger = logging.getLogger(__name__)


def read_labels(table: pa.Table, source: str, request: Request) -> Labels:
    """Read the labels of a table whose columns `columns_of_labels` chose, or of one with the column `target` alone.

    One label is read as `toxicity_of` reads it. Of several labels each may be missing, but not all of a row.

    Raises:
        RequestError: for a column that is missing, or of values whose meaning nobody can tell.
    """
    name, column = request.name_of(TARGET), None
    columns = {LABEL: TARGET}
    if LABEL_LISTS in table.column_names:
        name = request.name_of(LABEL_LISTS)
        column = as_single_values(table[LABEL_LISTS], by_class=request.asked is not None)
        if column is None:
            return read_lists(table[LABEL_LISTS], source, name, request)
        columns = dict.fromkeys(request.asked or (LABEL,), LABEL_LISTS)
    elif request.asked:
        columns = labels_in(table, source, request)
    if len(columns) > 1:
        read = {label: table[column] for label, column in columns.items()}
        names = {label: request.name_of(column) for label, column in columns.items()}
        return _read_several(read, names, source, request.positive_labels)
    subtypes = {subtype: table[subtype] for subtype in SUBTYPES if subtype in table.column_names}
    column = table[TARGET] if column is None else column
    toxicity = toxicity_of(column, source, name, request.positive_labels, subtypes)
    return Labels(dict.fromkeys(columns, toxicity.shares), *toxicity[1:])


def _read_several(
    columns: Mapping[str, pa.ChunkedArray],
    names: Mapping[str, str],
    source: str,
    positive_labels: Sequence[str] | None,
) -> Labels:
    """Read several labels, each by its own column; `names` are the columns' in the source.

    The positive labels are those of all columns whose values are not plain shares.
    """
    plain = {label: _plain(column, names[label]) for label, column in columns.items()}
    where = {label: f"{source}: the column {quoted(name)}" for label, name in names.items()}
    others = {
        label: values_of_label(column, where[label], FLAG) for label, column in columns.items() if plain[label] is None
    }
    unscored = _unscored(others.values(), [column for column in plain.values() if column is not None])
    shares: dict[str, pa.Array | pa.ChunkedArray] = {}
    faults: list[tuple[np.ndarray, str]] = []
    unmatched: list[dict[str, str]] = []
    for label, column in plain.items():
        if column is not None:
            shares[label] = column
            continue
        values, is_civil = without(others[label], unscored), polarity(names[label]) is False
        positive = positive_labels if is_civil or not _are_shares(values) else None
        what = f"the label {quoted(label)}"
        read, bad, nowhere = shares_of(values, where[label], positive, is_civil, what, FLAG)
        shares[label] = pa.array(read, mask=np.isnan(read))
        faults += [(rows, reason) for rows, reason in bad if rows.any()]
        unmatched += [nowhere] if positive else []
    if positive_labels and not unmatched:
        raise RequestError(
            f"{source}: all labels are numbers from 0 to 1, which are toxic from 0.5 on: leave --positive_labels out, "
            "as it names classes."
        )
    known = reduce(np.logical_or, [rows for rows, _ in faults], unscored)
    missing = reduce(np.logical_and, [pc.is_null(column).to_numpy(zero_copy_only=False) for column in shares.values()])
    if (nothing := missing & ~known).any():
        faults.append((nothing, NO_LABEL))
    nowhere = set.intersection(*map(set, unmatched)) if unmatched else set()
    return Labels(shares, faults, unscored, {label: unmatched[0][label] for label in sorted(nowhere)})


def _plain(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray | None:
    """The column where its values are shares as they stand, with nothing to tell about them."""
    told = pa.types.is_boolean(column.type) or polarity(name) is False
    return None if told else plain_shares(column)


def _are_shares(values: Values) -> bool:
    numbers = values.numbers[values.present]
    return bool(((numbers >= 0) & (numbers <= 1)).all())


def _unscored(others: Sequence[Values], plain: Sequence[pa.ChunkedArray]) -> np.ndarray:
    """Rows that are -1 in all labels that have a value there, and in two at least.

    There are none where all values are -1 and 1, which then mean civil and toxic.
    """
    others = [*others]
    rows = len(others[0].numbers) if others else len(plain[0])
    minus, valued = np.zeros(rows, dtype=np.int64), np.zeros(rows, dtype=np.int64)
    for values in others:
        minus += values.numbers == -1
        valued += values.present
    unscored = (minus >= 2) & (minus == valued)
    if unscored.any():
        for column in plain:
            unscored &= pc.is_null(column).to_numpy(zero_copy_only=False)
        signs = all(np.isin(values.numbers[values.present], (-1, 1)).all() for values in others)
        if signs and not plain:
            unscored[:] = False
    return unscored
