"""Columns of numbers, booleans and words as people write them → numbers by row."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from toxicity.core.console import quoted
from toxicity.data.readers.base import text_as_bytes
from toxicity.data.text import decoded

NUMBER = re.compile(r"(?P<number>[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?)\s*(?P<percent>%?)", re.ASCII)
# Words that say yes or no to what the name of the column asks.
PAIRS = ({"true": 1.0, "false": 0.0}, {"yes": 1.0, "no": 0.0}, {"t": 1.0, "f": 0.0}, {"y": 1.0, "n": 0.0})
BOOLEANS = {word: number for pair in PAIRS for word, number in pair.items()}
# What programs write where there is no value.
MISSING = ("", "na", "n/a", "nan", "null")
# Texts that are longer than this on average are comments, and no labels of any kind.
LONGEST_LABEL_BYTES = 100


class Values(NamedTuple):
    """The values of a column by row: `numbers` are float64, NaN for what is no number and where `missing` (bool).

    Where the column holds anything but numbers, `words` are its different values without blanks around them, as they
    are spelled first, and `codes` the place in there of each row's value, int, -1 where there is none.
    """

    numbers: np.ndarray
    missing: np.ndarray
    undecodable: np.ndarray
    words: list[str] | None = None
    codes: np.ndarray | None = None

    @property
    def present(self) -> np.ndarray:
        """Rows with a value."""
        return ~(self.missing | self.undecodable)

    def counts(self) -> dict[float | str, int]:
        """Each different value, in order, and in how many rows it stands."""
        if self.words is None:
            values, counts = np.unique(self.numbers[self.present], return_counts=True)
            return dict(zip(values.tolist(), counts.tolist(), strict=True))
        counts = np.bincount(self.codes[self.codes >= 0], minlength=len(self.words)).tolist()
        return {word: rows for word, rows in sorted(zip(self.words, counts, strict=True)) if rows}


def optional_shares(
    column: pa.ChunkedArray, ignored: np.ndarray, most: float = 1.0, whole: bool = False
) -> tuple[pa.Array | pa.ChunkedArray | None, str]:
    """Read a column that a run may do without: shares, or words that say yes or no.

    Args:
        column: of any Arrow type.
        ignored: rows that do not count and get null, bool `(rows,)`.
        most: the largest number that is right.
        whole: whether the numbers are counts.

    Returns:
        float64, null where missing; or None if a value is none of these, and which, for a message.
    """
    if not ignored.any() and not whole and (fits := plain_shares(column)) is not None:
        return fits, ""
    values = read_values(column)
    if values is None:
        return None, f"it holds {kind_of(column)}"
    numbers, missing = values.numbers, values.missing | ignored
    if values.words is not None:
        by_word = np.array([*(BOOLEANS.get(word.casefold(), np.nan) for word in values.words), np.nan])
        numbers = np.where(np.isnan(numbers), by_word[values.codes], numbers)
    wrong = ~missing & ~((numbers >= 0) & (numbers <= most))
    if whole:
        wrong |= ~missing & (numbers != np.floor(numbers))
    if wrong.any():
        row = int(wrong.argmax())
        kind = "a whole number" if whole else "a share from 0 to 1"
        return None, f"{quoted(as_text(column[row].as_py()))} in row {row + 1:,} is not {kind}"
    return pa.array(numbers, mask=missing), ""


def plain_shares(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """The column as float64 if all its values are numbers from 0 to 1, or numeric text of such; by Arrow alone."""
    numbers = _cast(column)
    if numbers is None:
        return None
    ends = pc.min_max(numbers).as_py()
    fits = ends["min"] is None or (ends["min"] >= 0 and ends["max"] <= 1)
    return numbers if fits and not pc.any(pc.is_nan(numbers)).as_py() else None


def _cast(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """The column as float64, if Arrow can read it so."""
    types = pa.types
    if any(test(column.type) for test in (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal)):
        return column.cast(pa.float64(), safe=False)
    as_bytes = text_as_bytes(column)
    try:
        return None if as_bytes is None else as_bytes.cast(pa.large_string()).cast(pa.float64())
    except pa.ArrowInvalid:
        return None


def read_values(column: pa.ChunkedArray) -> Values | None:
    """The values of a column; None if its type cannot be read, as that of lists, or it holds long texts."""
    if (converted := _cast(column)) is not None:
        numbers = converted.to_numpy()
        values = Values(numbers, np.isnan(numbers), np.zeros(len(column), dtype=bool))
        if pa.types.is_boolean(column.type):
            values = values._replace(words=["false", "true"], codes=np.where(values.missing, -1, numbers).astype(int))
        return values
    as_bytes = text_as_bytes(column)
    if as_bytes is None or (pc.sum(pc.binary_length(as_bytes)).as_py() or 0) > LONGEST_LABEL_BYTES * len(column):
        return None
    text, undecodable = decoded(as_bytes)
    encoded = pc.utf8_trim_whitespace(text.combine_chunks()).dictionary_encode()
    words: dict[str, str] = {}  # in lower case → as spelled first
    folded = [word.casefold() for word in encoded.dictionary.to_pylist()]
    for lower, word in zip(folded, encoded.dictionary.to_pylist(), strict=True):
        if lower not in MISSING:
            words.setdefault(lower, word)
    places = {lower: place for place, lower in enumerate(words)}
    # The last one, which is also that of index -1, is for rows without a value.
    codes_of = np.array([*(places.get(lower, -1) for lower in folded), -1])
    codes = codes_of[encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)]
    numbers_of = np.array([*map(number_of, words), np.nan])
    values = Values(numbers_of[codes], (codes < 0) & ~undecodable, undecodable)
    return values if np.isfinite(numbers_of[:-1]).all() else values._replace(words=[*words.values()], codes=codes)


def kind_of(column: pa.ChunkedArray) -> str:
    """What a column holds that `read_values` cannot read, for messages."""
    return str(column.type) if text_as_bytes(column) is None else "long texts"


def number_of(word: str) -> float:
    """The number that a word is, also with a decimal comma or a percent sign; else NaN."""
    match = NUMBER.fullmatch(word)
    if match is None:
        return np.nan
    number = float(match["number"].replace(",", ".")) / (100 if match["percent"] else 1)
    return number if np.isfinite(number) else np.nan


def as_text(value: object) -> str:
    """A value of a file as a text, numbers without trailing zeros."""
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return f"{value:.10g}" if isinstance(value, float) else str(value)
