"""A column of lists of labels: which of the classes in it mean toxic, and in which rows they are."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import reduce
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from toxicity.core.console import quoted
from toxicity.core.errors import RequestError
from toxicity.core.label_names import MAIN_NAMES, require_label_names, synonyms_of
from toxicity.core.schema import LABEL, find_columns, letters_of, polarity
from toxicity.data.label_columns import FLAG, LabelNames, Labels, Request
from toxicity.data.labels import MISSING_TARGET, NO_LABEL, key_of, tell_toxic, values_of_label, with_rows
from toxicity.data.readers.base import text_as_bytes
from toxicity.data.text import decoded
from toxicity.data.values import PAIRS, Values, as_text, plain_shares

logger = logging.getLogger(__name__)


def as_single_values(column: pa.ChunkedArray, by_class: bool) -> pa.ChunkedArray | None:
    """The values of a column that has one in each row, be it in a list; None for lists of classes.

    Args:
        column: of any Arrow type.
        by_class: whether each class is a label, so that a list of one name holds that class and not the others.
    """
    if not pa.types.is_large_list(column.type):
        return column
    lengths = pc.list_value_length(column)
    if not pc.all(pc.equal(lengths, 1)).as_py():
        return None
    values = pc.list_element(pc.if_else(pc.equal(lengths, 1), column, None), 0)
    return None if by_class and plain_shares(values) is None else values


def read_lists(column: pa.ChunkedArray, source: str, name: str, request: Request) -> Labels:
    """Read a column of lists of classes as labels.

    Each class that means something toxic is a label under its name in the data, if `request.asked` names the column;
    else all of them together are the one label. Which do, `positive_labels` say, or the names of the classes. The main
    label is the class that is called toxic, else one that holds where any of the toxic classes does. An empty list
    holds none of them; a row without a list is bad.

    Args:
        column: large lists of numbers or text.
        source: what it was read from, for messages.
        name: its name there.
        request: what is wanted of it.

    Raises:
        RequestError: for classes of which nobody can tell whether they are toxic, and for vectors of numbers, of which
            nobody can tell what they are about.
    """
    where, rows = f"{source}: the column {quoted(name)}", len(column)
    missing = pc.is_null(column).to_numpy()
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
    elements = pc.list_flatten(column)
    values = values_of_label(elements, where, FLAG)
    _refuse_vectors(values, lengths[~missing], where)
    classes, codes = _classes(elements, values)
    row_of = np.repeat(np.arange(rows), lengths)
    counts = {name: len(np.unique(row_of[codes == code])) for code, name in enumerate(classes)}
    counts = dict(sorted(counts.items()))
    toxic, unmatched = _toxic_classes(counts, where, request.positive_labels)
    tell_toxic(where, counts, set(toxic))
    held = {name: _any(row_of[codes == classes.index(name)], rows) for name in toxic}
    labels = request.known or _label_names(toxic, by_class=request.asked is not None)
    same = _same_classes(labels.names, toxic)
    nowhere = np.zeros(rows, dtype=bool)
    holds = {label: reduce(np.logical_or, map(held.get, found), nowhere) for label, found in same.items()}
    if labels.main_is_any:
        holds[labels.names[0]] = reduce(np.logical_or, held.values(), nowhere)
    new = [name for name in toxic if name not in chain(*same.values())]
    if request.known and request.asked and new:
        logger.warning(
            f"{where} holds {', '.join(map(quoted, new))}, which no training row has: no label of the model."
        )
    undecodable = _any(row_of[values.undecodable], rows)
    bad = missing | undecodable
    faults = [(missing, MISSING_TARGET if len(holds) == 1 else NO_LABEL), (undecodable, "a label is not UTF-8")]
    return Labels(
        {name: pa.array(where_it_holds.astype(np.float64), mask=bad) for name, where_it_holds in holds.items()},
        [(faulty, reason) for faulty, reason in faults if faulty.any()],
        np.zeros(rows, dtype=bool),
        unmatched,
        labels,
    )


def _same_classes(labels: Sequence[str], classes: Sequence[str]) -> dict[str, list[str]]:
    """The classes that each label is: those of its name, in upper or lower case, else as `find_columns` finds them."""
    folded = {label.casefold() for label in labels}
    free = [name for name in classes if name.casefold() not in folded]
    exact = {label: [name for name in classes if name.casefold() == label.casefold()] for label in labels}
    return {label: found or find_columns((label,), free) for label, found in exact.items()}


def _any(numbers: np.ndarray, rows: int) -> np.ndarray:
    """Whether the number of a row is among these, bool `(rows,)`."""
    found = np.zeros(rows, dtype=bool)
    found[numbers] = True
    return found


def _refuse_vectors(values: Values, lengths: np.ndarray, where: str) -> None:
    numbers = values.numbers[values.present]
    shares = ((numbers >= 0) & (numbers <= 1)).all() or PAIRS[0].keys() >= set(map(str.casefold, values.words or "?"))
    if shares and len(lengths) and lengths.min() == lengths.max() > 1:
        raise RequestError(
            f"{where} holds lists of {lengths[0]} numbers, and nothing says which of them is which label. Give each "
            f"label a column of its own, and name these columns with {FLAG}."
        )


def _classes(elements: pa.ChunkedArray, values: Values) -> tuple[list[str], np.ndarray]:
    """The names of the different classes, and the place in there of each element's, -1 where there is none.

    Names that differ in upper and lower case alone are one class, which goes by the most frequent of them.
    """
    if values.words is None:
        numbers, codes = np.unique(values.numbers[values.present], return_inverse=True)
        places = np.full(len(values.numbers), -1)
        places[values.present] = codes
        return list(map(as_text, numbers.tolist())), places
    as_bytes = text_as_bytes(elements)
    if as_bytes is None:  # booleans
        return values.words, values.codes
    text = pc.utf8_trim_whitespace(decoded(as_bytes)[0])
    counts = {count["values"]: count["counts"] for count in text.value_counts().to_pylist()}
    spellings = sorted(filter(None, counts), key=lambda word: (-counts[word], word))
    frequent = {word.casefold(): word for word in reversed(spellings)}
    return [frequent[word.casefold()] for word in values.words], values.codes


def _toxic_classes(
    counts: Mapping[str, int], where: str, positive_labels: Sequence[str] | None
) -> tuple[list[str], dict[str, str]]:
    """The names of the toxic classes, in order; and the positive labels that no row has, with a sentence."""
    if positive_labels:
        keys = {name: key_of(name) for name in counts}
        wanted = {key_of(label): label for label in positive_labels}
        unmatched = {
            label: f"{where} holds {with_rows(counts)}, and nowhere {quoted(label)}, as --positive_labels has."
            for key, label in wanted.items()
            if key not in keys.values()
        }
        return sorted(name for name, key in keys.items() if key in wanted), unmatched
    said = {name: True if synonyms_of(name) else polarity(name) for name in counts}
    if unclear := [name for name, is_toxic in said.items() if is_toxic is None]:
        raise RequestError(
            f"{where} holds lists of {with_rows(counts)}, and nobody can tell whether {quoted(min(unclear))} is toxic. "
            "Name all classes that are with --positive_labels VALUE..., or another column with --label_column_names."
        )
    return sorted(name for name, is_toxic in said.items() if is_toxic), {}


def _label_names(toxic: Sequence[str], by_class: bool) -> LabelNames:
    if not by_class or not toxic:
        return LabelNames((LABEL,), main_is_any=True)
    main = [name for other in MAIN_NAMES for name in toxic if letters_of(name) == other][:1]
    if not main and len(toxic) > 1:
        names = LabelNames((LABEL, *toxic), main_is_any=True)
    else:
        names = LabelNames((*main, *(name for name in toxic if name not in main)))
    require_label_names(names.names, "Rename the class, or name the others that are toxic with --positive_labels.")
    return names
