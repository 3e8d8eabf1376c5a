"""Tables of comments that somebody uploads to the page or pastes into it: read, and written with their scores."""

from __future__ import annotations

import csv
import io
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from toxicity.core.console import quoted
from toxicity.core.errors import RequestError
from toxicity.core.schema import ID, NAMES, TEXT, find_columns, listed
from toxicity.data.readers.base import ChooseColumns, Layout
from toxicity.data.readers.encodings import likely_encoding
from toxicity.data.readers.files import ARROW_READERS, read_windows
from toxicity.data.readers.packings import PYTHON_OPENS, ZIP, ZSTD
from toxicity.data.row_checks import check_comments
from toxicity.predict.columns import names_of_columns

MAX_BYTES = 5 * 2**20
MAX_ROWS = 5_000
# What may unfold to any size is not read here.
PACKED = re.compile(b"|".join([*PYTHON_OPENS, ZSTD, ZIP, *map(re.escape, ARROW_READERS)]))
TOO_LARGE = "score it with python -m toxicity.predict, which takes files of any size."


class TableError(Exception):
    """A table that cannot be scored here. The message is a sentence for the person who gave it."""


class Rows(NamedTuple):
    """The rows of a table in their order."""

    ids: list[object]
    texts: list[str | None]
    reasons: dict[int, str]  # row from 0 → why it has no score
    encoding: str | None = None  # the likely one, of a table that is not UTF-8
    doubtful_header: str | None = None  # the name of the only column, where it may as well be a comment


def columns_of(content: bytes) -> tuple[list[str], str | None]:
    """The names of a table's columns, and which of them is that of the comments, if it can be told.

    Raises:
        TableError: if it is no table.
    """
    found: list[str] = []

    def look(names: list[str], _: str) -> dict[str, str]:
        found.extend(names)
        return {TEXT: names[0]}

    _read(content, look, "table.csv", rows=1)
    return found, _column_of_texts(found)


def read_rows(content: bytes, column: str | None = None, every_line: bool = False) -> Rows:
    """Read a table as `toxicity.predict` reads files; of text in another encoding than UTF-8 the likely one is taken.

    Args:
        content: CSV with any delimiter, or JSON lines; at most `MAX_BYTES`.
        column: that of the comments; None to go by the names of the columns.
        every_line: whether there is no header, and every line is a comment.

    Raises:
        TableError: for more than `MAX_ROWS` rows, and for what is no such table.
    """

    doubtful: list[str] = []

    def choose(names: list[str], _: str) -> dict[str, str]:
        if every_line:
            return {TEXT: names[0]}
        doubtful.extend(names if len(names) == 1 and not find_columns(NAMES[TEXT], names) else [])
        text = (column if column in names else None) if column else _column_of_texts(names)
        if text is None:
            lacks = (
                f"There is no column {quoted(column)}" if column else "It is not clear which column has the comments"
            )
            raise TableError(f"{lacks}; there are {listed(names)}. Choose the column of the comments.")
        ids = [name for name in find_columns(NAMES[ID], names) if name != text]
        return {TEXT: text} | ({ID: ids[0]} if len(ids) == 1 else {})

    rows = _read(content, choose, "table.txt" if every_line else "table.csv", MAX_ROWS + 1)
    if not rows.texts:
        raise TableError("The table has no rows.")
    return rows._replace(doubtful_header=doubtful[0] if doubtful else None)


def _column_of_texts(names: Sequence[str]) -> str | None:
    found = find_columns(NAMES[TEXT], names)
    return found[0] if len(found) == 1 else names[0] if len(names) == 1 else None


def _read(content: bytes, choose: ChooseColumns, name: str, rows: int) -> Rows:
    if len(content) > MAX_BYTES:
        raise TableError(f"The table is larger than {MAX_BYTES // 2**20} MB: {TOO_LARGE}")
    if PACKED.match(content):
        raise TableError("The file is packed or binary: unpack it, or save it as CSV.")
    with tempfile.TemporaryDirectory() as folder:
        # Private to this user. Readers take paths, as they tell what a file is by its name, too.
        path = Path(folder) / name
        path.write_bytes(content)
        try:
            likely = likely_encoding(path)
            read = Rows([], [], {}, likely if likely != "utf-8" else None)
            layout = Layout(encoding=likely, txt_holds_lines=True)
            for part in read_windows(path, choose, rows, 2 * MAX_BYTES, layout):
                first = len(read.texts)
                if first + len(part.table) > MAX_ROWS:
                    raise TableError(f"The table has more than {MAX_ROWS:,} rows: {TOO_LARGE}")
                table, reasons = check_comments(part.table, str(path), part.broken, first)
                read.ids.extend(table[ID].to_pylist())
                read.texts.extend(table[TEXT].to_pylist())
                read.reasons.update({first + row: reason for row, reason in reasons.items()})
                if rows == 1:
                    break
            return read
        except RequestError as error:
            raise TableError(_for_people(str(error), path)) from error


def _for_people(message: str, path: Path) -> str:
    """A message of the readers without the path, and without advice that names flags of a command."""
    text = re.split(r"[.:;,]?\s[^.:;,]*--", message.replace(str(path), "the table"))[0].rstrip(".")
    return f"{text[:1].upper()}{text[1:]}."


def header(labels: Sequence[str], thresholds: Mapping[str, float]) -> list[str]:
    """Names of the columns of `as_csv`, those of `toxicity.predict` and the text."""
    _, *kinds = labels
    name, *scores = names_of_columns(kinds, [label for label in kinds if label in thresholds])
    return [name, TEXT, *scores]


def cells(rows: Rows, scores: np.ndarray, labels: Sequence[str], thresholds: Mapping[str, float]) -> list[list[object]]:
    """The rows under `header`, with nothing in the cells of scores where a row has none.

    Args:
        rows: as they were read.
        scores: float64 `(rows, labels)`, NaN in rows without a score.
        labels: the main one first.
        thresholds: label → score from which a comment has it.
    """
    table = []
    for identifier, text, row in zip(rows.ids, rows.texts, scores.tolist(), strict=True):
        line: list[object] = [identifier, text]
        for label, score in zip(labels, row, strict=True):
            scored = not np.isnan(score)
            line.append(score if scored else None)
            if label in thresholds:
                line.append(int(score >= thresholds[label]) if scored else None)
        table.append(line)
    return table


def as_csv(names: Sequence[str], table: Sequence[Sequence[object]]) -> bytes:
    """A table as CSV in UTF-8. Texts are as they were: they come from whoever downloads them."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow(names)
    writer.writerows(table)
    return file.getvalue().encode("utf-8", "replace")
