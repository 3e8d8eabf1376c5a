"""Values of the toxicity and of other shares, as people write them → numbers from 0 to 1.

What a column means is decided by all its values together, never row by row: a `2` among a million zeros and ones is a
slip, every third value a class.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from toxicity.core.console import quoted
from toxicity.core.errors import RequestError
from toxicity.core.schema import TARGET, polarity
from toxicity.data.values import PAIRS, Values, as_text, kind_of, number_of, plain_shares, read_values

logger = logging.getLogger(__name__)

# A value that does not fit occurs this often: it is no slip, and the column is of another kind.
LEAST_ROWS_OF_A_CLASS, LEAST_SHARE_OF_A_CLASS = 2, 0.01
# So many values that do not fit are no slips either, even if they are all different.
LEAST_ROWS_OUTSIDE, LEAST_SHARE_OUTSIDE = 10, 0.05
# With more different values from 0 to 1 than this, these are shares and no classes.
MOST_CLASSES_IN_SHARES = 5
# More different words than yes and no have in upper and lower case, and as numbers.
MOST_SPELLINGS = 20
LEAST_DIFFERENT_PERCENTS = 5
MOST_VALUES_SHOWN = 10
MISSING_TARGET = "the target is missing"
NO_LABEL = "no label has a value"
# What names the column of a label.
ONE_COLUMN = "--label_column_name"


class Toxicity(NamedTuple):
    """The toxicity of each row.

    `shares` are float64 from 0 to 1, null where the value is missing or bad, or the row is `unscored`: bool `(rows,)`.
    `faults` are rows that are bad, bool `(rows,)`, each with the reason. `unmatched` has a sentence for each positive
    label that no row has.
    """

    shares: pa.Array | pa.ChunkedArray
    faults: list[tuple[np.ndarray, str]]
    unscored: np.ndarray
    unmatched: dict[str, str]


def toxicity_of(
    column: pa.ChunkedArray,
    source: str,
    name: str = TARGET,
    positive_labels: Sequence[str] | None = None,
    others: Mapping[str, pa.ChunkedArray] | None = None,
    flag: str = ONE_COLUMN,
) -> Toxicity:
    """Read the column of the toxicity.

    Numbers from 0 to 1 are shares as they stand, also as percents or with a decimal comma. Words that say yes and no,
    two names of classes that say which is toxic, and -1 beside 1 are 1 and 0, which is logged. Anything else is
    refused unless `positive_labels` says what it means.

    Args:
        column: booleans, numbers or text of any Arrow type.
        source: what it was read from, for messages.
        name: its name there. Numbers in a column whose name says that it is about civil comments are refused.
        positive_labels: the values that mean toxic; all others then mean civil. Words are compared in lower case and
            without blanks around them, numbers as numbers, and true is 1.
        others: the other labels of the same rows. In the labels that the competition of 2018 published last, all are
            -1 in the rows that were not scored.
        flag: what names another column.

    Raises:
        RequestError: if the column is of a type that holds no shares, or has values whose meaning nobody can tell from
            them.
    """
    fits = plain_shares(column)
    said_to_be_civil = polarity(name) is False
    if fits is not None and not positive_labels and not said_to_be_civil and not pa.types.is_boolean(column.type):
        faults = [(pc.is_null(fits).to_numpy(), MISSING_TARGET)] if fits.null_count else []
        return Toxicity(fits, faults, np.zeros(len(column), dtype=bool), {})
    where = f"{source}: the column {quoted(name)}"
    values = values_of_label(column, where, flag)
    unscored = _unscored(values, others or {})
    scored = without(values, unscored)
    shares, faults, unmatched = shares_of(scored, where, positive_labels, said_to_be_civil, flag=flag)
    missing = np.isnan(shares)
    known = reduce(np.logical_or, [rows for rows, _ in faults], unscored)
    faults.append((missing & ~known, MISSING_TARGET))
    faults = [(rows, reason) for rows, reason in faults if rows.any()]
    return Toxicity(pa.array(shares, mask=missing), faults, unscored, unmatched)


def values_of_label(column: pa.ChunkedArray, where: str, flag: str = ONE_COLUMN) -> Values:
    """The values of a label of any Arrow type.

    Raises:
        RequestError: if the column is of a type that holds no shares. `where` is the source and the column, and `flag`
            what names another one.
    """
    values = read_values(column)
    if values is None:
        kind = kind_of(column)
        lists = " Lists of classes are read where --label_column_names names that column alone."
        raise RequestError(
            f"{where} holds no toxicity but {kind}. Name another with {flag}, "
            f"with one number or name of a class in each row.{lists if 'list<' in kind else ''}"
        )
    return values


def shares_of(
    values: Values,
    where: str,
    positive_labels: Sequence[str] | None = None,
    said_to_be_civil: bool = False,
    what: str = "the target",
    flag: str = ONE_COLUMN,
) -> tuple[np.ndarray, list[tuple[np.ndarray, str]], dict[str, str]]:
    """What the values of a label mean, as `toxicity_of` has it.

    Args:
        values: those of the rows that were scored.
        where: the source and the column, for messages.
        positive_labels: the values that mean toxic.
        said_to_be_civil: whether the name of the column says that it is about civil comments.
        what: what the label is called in the reasons for bad rows.
        flag: what names another column.

    Returns:
        Shares, float64 `(rows,)`, NaN where there is none; rows that are bad, with the reason; and the positive labels
        that no row has, with a sentence.

    Raises:
        RequestError: for values whose meaning nobody can tell from them.
    """
    if positive_labels:
        (shares, unmatched), faults = _named(values, where, positive_labels), []
    else:
        (shares, faults), unmatched = _understood(values, where, said_to_be_civil, what, flag), {}
    if values.undecodable.any():
        faults.append((values.undecodable, f"{what} is not UTF-8"))
    return shares, faults, unmatched


def _unscored(values: Values, others: Mapping[str, pa.ChunkedArray]) -> np.ndarray:
    """Rows that are -1 in the toxicity and in all other labels that have a value there; none without other labels."""
    minus = values.numbers == -1
    read = [read_values(column) for column in others.values()] if minus.any() else []
    told = [(other.numbers == -1, other.missing) for other in read if other is not None]
    some = any(rows[minus].all() for rows, _ in told)
    every = all((rows | missing)[minus].all() for rows, missing in told)
    return minus if some and every else np.zeros(len(minus), dtype=bool)


def without(values: Values, rows: np.ndarray) -> Values:
    """The same values, but for these rows, which have none."""
    if not rows.any():
        return values
    codes = None if values.codes is None else np.where(rows, -1, values.codes)
    return values._replace(numbers=np.where(rows, np.nan, values.numbers), missing=values.missing | rows, codes=codes)


def _understood(
    values: Values, where: str, said_to_be_civil: bool, what: str, flag: str
) -> tuple[np.ndarray, list[tuple[np.ndarray, str]]]:
    """The shares, NaN where there is none, and the rows that are bad, where the values say what they mean."""
    meaning = None if values.words is None else _meaning(values)
    if meaning is not None and any(polarity(word) is not None for word in meaning):
        return _by_word(values, meaning, where), []
    if said_to_be_civil:
        raise RequestError(
            f"{where} tells by its name which comments are civil, not which are toxic. Say which of its values mean "
            f"toxic, such as --positive_labels 0, or name a column of the toxicity with {flag}."
        )
    if meaning is not None:
        return _by_word(values, meaning, where), []
    numbers, present = values.numbers.copy(), values.present
    no_numbers = present & np.isnan(numbers)
    unlike = _too_many(values, no_numbers)
    outside = present & ((numbers < 0) | (numbers > 1))
    counts = {} if values.words is not None or not outside.any() else values.counts()
    if counts.keys() == {-1.0, 1.0}:
        tell_toxic(where, counts, {1.0})
        return np.where(numbers == 1, 1.0, np.where(present, 0.0, np.nan)), []
    if unlike or no_numbers.sum() > (present & ~no_numbers).sum() or _too_many(values, outside):
        percents = len(counts) >= LEAST_DIFFERENT_PERCENTS and min(counts) >= 0 and 10 < max(counts) <= 100
        raise RequestError(
            f"{where} holds {with_rows(values.counts())}, of which nobody can tell what is toxic. Name the values that "
            f"are with --positive_labels VALUE..., or another column with {flag}."
            + (" Percents should be written as shares (0.85) or with a percent sign (85%)." if percents else "")
        )
    numbers[outside] = np.nan
    return numbers, [(no_numbers, f"{what} is not a number"), (outside, f"{what} is not from 0 to 1")]


def _meaning(values: Values) -> dict[str, float] | None:
    """Word, as spelled → 1 for toxic or 0 for civil, if they all say that."""
    if len(values.words) > MOST_SPELLINGS:
        return None
    numbers = {word: number_of(word) for word in values.words if np.isfinite(number_of(word))}
    others = {word: word.casefold() for word in values.words if word not in numbers}
    for pair in PAIRS:
        if pair.keys() >= {*others.values()} and {*numbers.values()} <= {0.0, 1.0}:
            return numbers | {word: pair[lower] for word, lower in others.items()}
    said = {word: polarity(word) for word in values.words}
    if len(said) in (1, 2) and None not in said.values() and len({*said.values()}) == len(said):
        return {word: float(is_toxic) for word, is_toxic in said.items()}
    return None


def _by_word(values: Values, meaning: Mapping[str, float], where: str) -> np.ndarray:
    shares = np.array([*(meaning[word] for word in values.words), np.nan])[values.codes]
    tell_toxic(where, values.counts(), {word for word, share in meaning.items() if share == 1})
    return shares


def _too_many(values: Values, rows: np.ndarray) -> bool:
    """Whether these values are too many for slips: one of them is frequent, or all of them are together."""
    if not rows.any():
        return False
    whole = values.present.sum()
    found = values.numbers[rows] if values.words is None else values.codes[rows]
    most = np.unique(found, return_counts=True)[1].max()
    return (most >= LEAST_ROWS_OF_A_CLASS and most >= LEAST_SHARE_OF_A_CLASS * whole) or (
        rows.sum() >= LEAST_ROWS_OUTSIDE and rows.sum() >= LEAST_SHARE_OUTSIDE * whole
    )


def _named(values: Values, where: str, positive_labels: Sequence[str]) -> tuple[np.ndarray, dict[str, str]]:
    """1.0 where the value is one of the positive labels, 0.0 where it is another, NaN where it is missing.

    Beside it the labels that are nowhere, with a sentence about each.
    """
    counts = values.counts()
    if values.words is None and len(counts) > MOST_CLASSES_IN_SHARES and min(counts) >= 0 and max(counts) <= 1:
        raise RequestError(
            f"{where} holds {len(counts):,} different shares from {min(counts):g} to {max(counts):g}, which are toxic "
            "from 0.5 on: leave --positive_labels out, as it names classes."
        )
    toxic = {key_of(label): label for label in positive_labels}
    keys = {value: key_of(value) for value in counts}
    unmatched = {
        label: f"{where} holds {with_rows(counts)}, and nowhere {quoted(label)}, as --positive_labels has."
        for key, label in toxic.items()
        if key not in keys.values()
    }
    tell_toxic(where, counts, {value for value, key in keys.items() if key in toxic})
    if values.words is None:
        named = np.isin(values.numbers, [key for key in toxic if isinstance(key, float)])
        return np.where(values.present, named, np.nan), unmatched
    return np.array([*(key_of(word) in toxic for word in values.words), np.nan])[values.codes], unmatched


def key_of(value: float | str) -> float | str:
    """What a value is compared by."""
    if isinstance(value, float):
        return value
    word = value.strip().casefold()
    number = number_of(word)
    return number if np.isfinite(number) else PAIRS[0].get(word, word)


def tell_toxic(where: str, counts: Mapping[float | str, int], toxic: set[float | str]) -> None:
    """Log which values of a column mean toxic and which mean civil."""
    sides = [{value: rows for value, rows in counts.items() if (value in toxic) is side} for side in (True, False)]
    told = [f"{kind} {with_rows(side) or 'none'}" for kind, side in zip(("toxic", "civil"), sides, strict=True)]
    logger.info(f"{where} means: {'; '.join(told)}.")


def with_rows(counts: Mapping[float | str, int]) -> str:
    """Values and the number of their rows, the most frequent ones."""
    frequent = sorted(counts, key=lambda value: -counts[value])[:MOST_VALUES_SHOWN]
    told = [f"{quoted(as_text(value))} ({_rows(counts[value])})" for value in counts if value in frequent]
    return ", ".join(told) + (f" and {len(counts) - len(told):,} more" if len(counts) > len(told) else "")


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"
