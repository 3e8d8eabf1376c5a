"""The labels of each row, read together: one column, columns of several labels, or a column of lists of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from toxicity.core.console import quoted
from toxicity.core.errors import RequestError
from toxicity.core.schema import LABEL, LABEL_LISTS, SUBTYPES, TARGET, polarity
from toxicity.data.label_columns import FLAG, LabelNames, Labels, Request, labels_in
from toxicity.data.label_lists import as_single_values, read_lists
from toxicity.data.labels import (
    NO_LABEL,
    ONE_COLUMN,
    key_of,
    shares_of,
    tell_toxic,
    toxicity_of,
    values_of_label,
    with_rows,
    without,
)
from toxicity.data.values import Values, plain_shares


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
            lists = read_lists(table[LABEL_LISTS], source, name, request)
            return lists._replace(subtypes=request.labelled_subtypes({lists.names.names[0]: LABEL_LISTS}))
        columns = dict.fromkeys(request.asked or (LABEL,), LABEL_LISTS)
    elif request.asked:
        columns = labels_in(table, source, request)
    labelled = request.labelled_subtypes(columns)
    if len(columns) > 1:
        read = {label: table[column] for label, column in columns.items()}
        names = {label: request.name_of(column) for label, column in columns.items()}
        return _read_several(read, names, source, request)._replace(subtypes=labelled)
    others = {name: table[name] for name in SUBTYPES if name in table.column_names and name not in labelled}
    column, flag = table[TARGET] if column is None else column, FLAG if request.asked else ONE_COLUMN
    toxicity = toxicity_of(column, source, name, request.positive_labels, others, flag)
    return Labels(dict.fromkeys(columns, toxicity.shares), *toxicity[1:], LabelNames(tuple(columns)), labelled)


def _read_several(
    columns: Mapping[str, pa.ChunkedArray],
    names: Mapping[str, str],
    source: str,
    request: Request,
) -> Labels:
    """Read several labels, each by its own column; `names` are the columns' in the source.

    For the positive labels see `_by_class`.
    """
    known = () if request.known is None else request.known.by_class
    plain = {label: None if label in known else _plain(column, names[label]) for label, column in columns.items()}
    where = {label: f"{source}: the column {quoted(name)}" for label, name in names.items()}
    others = {
        label: values_of_label(column, where[label], FLAG) for label, column in columns.items() if plain[label] is None
    }
    as_they_stand = [column for column in plain.values() if column is not None]
    signs = _are_signs(others.values(), as_they_stand)
    unscored = _unscored(others.values(), as_they_stand, signs)
    others = {label: without(values, unscored) for label, values in others.items()}
    by_class, unmatched = _by_class(others, names, source, request)
    shares: dict[str, pa.Array | pa.ChunkedArray] = {}
    faults: list[tuple[np.ndarray, str]] = []
    for label, column in plain.items():
        if column is not None:
            shares[label] = column
            continue
        positive, what = request.positive_labels if label in by_class else None, f"the label {quoted(label)}"
        values = others[label]
        if signs and not positive and not (values.numbers == 1).any():
            # Other labels say what -1 is.
            tell_toxic(where[label], values.counts(), set())
            values = values._replace(numbers=np.where(values.present, 0.0, np.nan))
        read, bad, _ = shares_of(values, where[label], positive, _is_civil(names[label]), what, FLAG)
        shares[label] = pa.array(read, mask=np.isnan(read))
        faults += [(rows, reason) for rows, reason in bad if rows.any()]
    told = reduce(np.logical_or, [rows for rows, _ in faults], unscored)
    missing = reduce(np.logical_and, [pc.is_null(column).to_numpy(zero_copy_only=False) for column in shares.values()])
    if (nothing := missing & ~told).any():
        faults.append((nothing, NO_LABEL))
    return Labels(shares, faults, unscored, unmatched, LabelNames(tuple(columns), by_class=by_class))


def _by_class(
    columns: Mapping[str, Values], names: Mapping[str, str], source: str, request: Request
) -> tuple[tuple[str, ...], dict[str, str]]:
    """The labels that the positive labels are for, and a sentence for each of these that no row has.

    They are for the columns that hold one of them, but for those of plain shares; in other rows than those to train on
    for the same labels as there.
    """
    if not request.positive_labels:
        return (), {}
    if request.known is not None:
        labels = [*request.known.by_class]
    else:
        labels = [label for label, values in columns.items() if _is_civil(names[label]) or not _are_shares(values)]
        if not labels:
            raise RequestError(
                f"{source}: all labels are numbers from 0 to 1, which are toxic from 0.5 on: leave --positive_labels "
                "out, as it names classes."
            )
    counts = {label: columns[label].counts() for label in labels}
    keys = {label: set(map(key_of, counts[label])) for label in labels}
    wanted = {key_of(value): value for value in request.positive_labels}
    values = with_rows(sum(map(Counter, counts.values()), Counter()))
    unmatched = {
        value: f"{source}: the labels hold {values}, and nowhere {quoted(value)}, as --positive_labels has."
        for key, value in wanted.items()
        if key not in set().union(*keys.values())
    }
    return tuple(label for label in labels if request.known is not None or keys[label] & wanted.keys()), unmatched


def _is_civil(name: str) -> bool:
    """Whether the name of a column says that it is about civil comments."""
    return polarity(name) is False


def _plain(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray | None:
    """The column where its values are shares as they stand, with nothing to tell about them."""
    return None if pa.types.is_boolean(column.type) or _is_civil(name) else plain_shares(column)


def _are_shares(values: Values) -> bool:
    numbers = values.numbers[values.present]
    return bool(((numbers >= 0) & (numbers <= 1)).all())


def _are_signs(others: Collection[Values], plain: Sequence[pa.ChunkedArray]) -> bool:
    """Whether all values are -1 and 1, and each is there somewhere, so that they mean civil and toxic."""
    ones = [pc.min_max(column).as_py()["min"] for column in plain]  # these are from 0 to 1
    numbers = [values.numbers[values.present] for values in others]
    return (
        all(least in (None, 1) for least in ones)
        and all(np.isin(found, (-1, 1)).all() for found in numbers)
        and any((found == -1).any() for found in numbers)
        and (1 in ones or any((found == 1).any() for found in numbers))
    )


def _unscored(others: Collection[Values], plain: Sequence[pa.ChunkedArray], signs: bool) -> np.ndarray:
    """Rows that are -1 in all labels that have a value there, and in two at least; none where -1 means civil."""
    rows = len(plain[0]) if plain else len(next(iter(others)).numbers)
    minus, valued = np.zeros(rows, dtype=np.int64), np.zeros(rows, dtype=np.int64)
    for values in () if signs else others:
        minus += values.numbers == -1
        valued += values.present
    unscored = (minus >= 2) & (minus == valued)
    for column in plain if unscored.any() else ():
        unscored &= pc.is_null(column).to_numpy(zero_copy_only=False)
    return unscored
