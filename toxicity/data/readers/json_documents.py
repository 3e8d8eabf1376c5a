"""Records of JSON that is no lines: an array of objects, and the objects of lists and objects that pandas writes."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import IO, Any

from toxicity.core.errors import RequestError, one_line
from toxicity.data.readers import base
from toxicity.data.readers.base import printable_path

BLANKS = re.compile(r"[ \t\r\n]*")
READ_BYTES = 2**20


def array_elements(file: IO[bytes], path: Path) -> Iterator[tuple[Any, int]]:
    """The elements of a JSON array and about how many bytes each takes, in constant memory.

    Raises:
        RequestError: at the element that is not JSON or longer than a block, or if the array is cut off.
    """
    decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
    scan = json.JSONDecoder().raw_decode
    text, at, count, ended = "", 0, 0, False
    awaited = "["  # then an element, then `,` or `]`
    while True:
        at = BLANKS.match(text, at).end()
        error = "it is cut off"
        if awaited and at < len(text):
            if text[at] == "]" and awaited != "[":
                break
            if text[at] not in awaited:
                raise _damaged(path, count, f"`{awaited[0]}` is missing")
            awaited, at = "", at + 1
            continue
        if not awaited and at < len(text):
            if text[at] == "]" and not count:
                break
            try:
                value, end = scan(text, at)
            except (ValueError, RecursionError) as problem:
                error = one_line(problem)
            else:
                # A number may go on in what is read next; others have an end of their own.
                if ended or text[end : end + 1] in set(" \t\r\n,]") or isinstance(value, dict | list | str):
                    yield value, end - at
                    count, at, awaited = count + 1, end, ",]"
                    continue
        if ended or len(text) - at > base.BLOCK_BYTES:
            raise _damaged(path, count, error)
        block = file.read(READ_BYTES)
        ended = not block
        text, at = text[at:] + decode(block, final=ended), 0
    if text[at + 1 :].strip() or file.read(READ_BYTES).strip():
        raise RequestError(
            f"{printable_path(path)} goes on behind its JSON array: write one array, or one object a line."
        )


def _damaged(path: Path, count: int, error: str) -> RequestError:
    return RequestError(
        f"{printable_path(path)} is damaged or cut off: element {count + 1:,} of its JSON array: {error}."
    )


def records_of(document: dict[str, Any]) -> Iterator[dict[str, Any]] | None:
    """The rows of an object that holds a table; None if it holds none.

    Read are what `DataFrame.to_json` writes (orient `columns`, which is the default, `index`, `split` and `table`),
    columns as lists, and an object in which one key alone has a list of objects, such as `{"data": [{...}, ...]}`.
    """
    values = list(document.values())
    if {"columns", "data"} <= document.keys() and all(isinstance(document[key], list) for key in ("columns", "data")):
        names = document["columns"]
        if all(isinstance(row, list) and len(row) == len(names) for row in document["data"]):
            return (dict(zip(map(str, names), row, strict=True)) for row in document["data"])
    lists = [value for value in values if value and isinstance(value, list) and all(isinstance(v, dict) for v in value)]
    if len(lists) == 1:
        return iter(lists[0])
    if not values:
        return None
    if all(isinstance(value, dict) for value in values):
        rows = list(dict.fromkeys(chain.from_iterable(values)))
        if _are_numbers(document) and not _are_numbers(rows):
            return iter(values)
        return ({name: cells.get(row) for name, cells in document.items()} for row in rows)
    if all(isinstance(value, list) for value in values) and len(set(map(len, values))) == 1 and len(values[0]) > 1:
        return (dict(zip(document, row, strict=True)) for row in zip(*values, strict=True))
    return None


def _are_numbers(keys: Any) -> bool:
    return all(key.isdecimal() for key in keys)
