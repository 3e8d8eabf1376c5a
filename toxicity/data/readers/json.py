"""Reader of JSON: one object a line, an array of objects, or a table that pandas wrote; broken lines get a reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple

import pyarrow as pa

from toxicity.core.errors import RequestError, one_line
from toxicity.core.schema import LABEL_LISTS
from toxicity.data.readers import base
from toxicity.data.readers.base import (
    ChooseColumns,
    Layout,
    Limit,
    Part,
    batched,
    bounded_lines,
    line_too_long,
    printable_path,
)
from toxicity.data.readers.encodings import likely_encoding, utf8_stream
from toxicity.data.readers.json_documents import array_elements, records_of
from toxicity.data.readers.packings import Opened

# Where the caller sets no limit: values take more memory as Python's objects than as Arrow's.
LIMIT = Limit(2**16, 2**24)
# An object that holds a whole table is read at once, so it must be of moderate size.
MAX_DOCUMENT_BYTES = 2**26
NOT_UTF_8 = "its line is not UTF-8"
# An answer of Perspective holds the score of an attribute so deep; pandas.json_normalize names its column like this.
ANSWER, NESTED_SCORE = "attributeScores", "attributeScores.{}.summaryScore.value"


class Record(NamedTuple):
    """A row: its values by name, or the reason why it is broken; and the bytes it takes in the file."""

    values: dict[str, Any]
    broken: str | None
    bytes: int


def read_json(source: Opened, path: Path, choose: ChooseColumns, layout: Layout, limit: Limit | None) -> Iterator[Part]:
    """Read a file in parts.

    A column comes as booleans, int64 or float64 if all values of the part are of that kind, else as bytes as they
    would stand in a CSV file. With a limit, columns are chosen once, in the first part; without one also where names
    come up that were not there before.

    Raises:
        RequestError: if the file is blank, or all rows of its first part are broken.
    """
    seen: dict[str, None] = {}
    wanted: dict[str, str] | None = None
    for batch in batched(_records(utf8_stream(source, path, layout.encoding), path), limit or LIMIT, lambda r: r.bytes):
        broken = {number: record.broken for number, record in enumerate(batch) if record.broken}
        if wanted is None and len(broken) == len(batch):
            likely = likely_encoding(path) if broken[0] == NOT_UTF_8 else None
            remedy = f" but {likely}, it seems (--encoding {likely})" if likely else ""
            raise RequestError(f"{printable_path(path)} holds no JSON lines: {broken[0]}{remedy}.")
        names = dict.fromkeys(chain.from_iterable(record.values for record in batch))
        if wanted is None:
            wanted = choose(list(names), str(path))
        elif limit is None and names.keys() - seen.keys():
            for name, column in choose(list(seen | names), str(path)).items():
                if column not in wanted.values():
                    wanted.setdefault(name, column)
        seen |= names
        yield Part(_table(batch, wanted, broken), broken, source.share())
    if wanted is None:
        raise RequestError(f"{printable_path(path)} holds no JSON lines: it is blank.")


def _records(file: IO[bytes], path: Path) -> Iterator[Record]:
    if file.peek(1).lstrip()[:1] == b"[":
        for value, size in array_elements(file, path):
            yield _record(value, size)
        return
    # The first line may be a whole table, however long; an ordinary line may not be as long.
    while (first := file.readline(MAX_DOCUMENT_BYTES)) and not first.strip():
        pass
    document, rest = _document(first, file, path)
    if document is not None:
        for value in document:
            yield _record(value, 100)  # the document is in the memory, whatever the size of a part
        return
    if len(first) > base.BLOCK_BYTES:
        if len(first) == MAX_DOCUMENT_BYTES:
            next(bounded_lines(file), None)
        first = None
    for line in chain([first], rest, bounded_lines(file)):
        if line is None or line.strip():
            yield _parsed(line)


def _document(first: bytes, file: IO[bytes], path: Path) -> tuple[Iterator[Any] | None, list[bytes]]:
    """The rows of a file that is one object, or None; and the lines after the first that were read to find out."""
    try:
        value = json.loads(first)
    except (ValueError, RecursionError) as error:
        # An object of several lines: the first one is right as far as it goes.
        at_end = isinstance(error, json.JSONDecodeError) and error.pos >= len(error.doc.rstrip())
        if not (first.lstrip().startswith(b"{") and at_end):
            return None, []
        second = file.readline(base.BLOCK_BYTES)
        if second.startswith(b"{") or not second:
            return None, [second]
        text = first + second + file.read(MAX_DOCUMENT_BYTES)
        if len(text) > MAX_DOCUMENT_BYTES:
            raise RequestError(
                f"{printable_path(path)} is one JSON object of more than {MAX_DOCUMENT_BYTES:,} bytes: "
                "write one object a line."
            ) from None
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as fault:
            raise RequestError(
                f"{printable_path(path)} holds no JSON lines: it is not JSON: {one_line(fault)}."
            ) from None
        return (records_of(value) or iter([value])), []
    while (following := file.readline(base.BLOCK_BYTES)) and not following.strip():
        pass
    if not isinstance(value, dict) or following.strip():
        return None, [following]
    return records_of(value), [following]


def _parsed(line: bytes | None) -> Record:
    if line is None:
        return Record({}, f"it is not JSON: {line_too_long()}", base.BLOCK_BYTES)
    try:
        return _record(json.loads(line), len(line))
    except UnicodeDecodeError:
        return Record({}, NOT_UTF_8, len(line))
    except (ValueError, RecursionError) as error:
        return Record({}, f"it is not JSON: {one_line(error)}", len(line))


def _record(value: object, size: int) -> Record:
    if isinstance(value, dict):
        nested = value.get(ANSWER)
        return Record(value | _summary_scores(nested) if isinstance(nested, dict) else value, None, size)
    return Record({}, "it is not JSON: one JSON object a line is expected", size)


def _summary_scores(scores: dict[str, Any]) -> dict[str, Any]:
    """The score of each attribute of an answer of Perspective, as a column."""
    summaries = {name: score.get("summaryScore") for name, score in scores.items() if isinstance(score, dict)}
    return {
        NESTED_SCORE.format(name): score.get("value") for name, score in summaries.items() if isinstance(score, dict)
    }


def _table(batch: list[Record], wanted: dict[str, str], broken: dict[int, str]) -> pa.Table:
    """The wanted columns; adds to `broken` the rows with an object in one of them, or with a list of several values,
    which only `LABEL_LISTS` may hold.
    """
    columns = {name: [_scalar(record.values.get(column)) for record in batch] for name, column in wanted.items()}
    if LABEL_LISTS in wanted:
        columns[LABEL_LISTS] = _with_lists([record.values.get(wanted[LABEL_LISTS]) for record in batch])
    for name, values in columns.items():
        for number, value in enumerate(values):
            if isinstance(value, list | dict) and not (name == LABEL_LISTS and _is_flat(value)):
                broken.setdefault(number, f"its `{wanted[name]}` is neither text nor a number")
    for values in columns.values():
        for number in broken:
            values[number] = None
    return pa.table({name: _array(values) for name, values in columns.items()})


def _is_flat(value: list | dict) -> bool:
    return isinstance(value, list) and not any(isinstance(element, list | dict) for element in value)


def _scalar(value: object) -> object:
    """The element of a list of one; None for NaN, which is how Python writes a missing value."""
    value = value[0] if isinstance(value, list) and len(value) == 1 else value
    return None if isinstance(value, float) and value != value else value


def _with_lists(values: list[Any]) -> list[Any]:
    """The same values, but all in lists if one of them is a list."""
    if not any(isinstance(value, list) for value in values):
        return list(map(_scalar, values))
    return [value if value is None or isinstance(value, list) else [value] for value in values]


def _array(values: list[Any]) -> pa.Array:
    kinds = {type(value) for value in values} - {type(None)}
    if list in kinds:
        # As bytes, so that the lists of all parts are of one type.
        lists = [None if value is None else [_as_bytes(each) for each in value if each is not None] for value in values]
        return pa.array(lists, pa.large_list(pa.binary()))
    kind = {bool: pa.bool_(), int: pa.int64(), float: pa.float64()}.get(*kinds) if len(kinds) == 1 else None
    if not kinds:
        return pa.nulls(len(values))
    try:
        if kind is not None:
            return pa.array(values, kind)
    except OverflowError:  # beyond int64
        pass
    return pa.array([None if value is None else _as_bytes(value) for value in values], pa.binary())


def _as_bytes(value: str | bool | int | float) -> bytes:
    """A JSON value as it would stand in a CSV file."""
    if isinstance(value, str):
        # Half of a surrogate pair becomes bytes that are not UTF-8, for which the checks of rows have a message.
        return value.encode("utf-8", "surrogatepass")
    return (str(value).lower() if isinstance(value, bool) else repr(value)).encode()
