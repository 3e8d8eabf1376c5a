"""Reader of JSON lines, plain or gzipped; a broken line becomes a row of nulls with a reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pyarrow as pa

from toxicity.core.errors import RequestError, one_line
from toxicity.data.readers.base import LINE_TOO_LONG, ChooseColumns, Limit, Part, batched, bounded_lines, opened


def read_json_lines(path: Path, choose: ChooseColumns, limit: Limit | None) -> Iterator[Part]:
    """Read a file in parts that the limit allows, or in one part; values become bytes, as those of a CSV file.

    Raises:
        RequestError: if the file is blank, or all lines of its first part are broken.
    """
    wanted = None
    with opened(path) as (file, share):
        lines = (line for line in bounded_lines(file) if line is None or line.strip())
        for batch in batched(lines, limit, lambda line: len(line or b"")):
            records, broken = _parse_lines(batch)
            if wanted is None:
                if len(broken) == len(records):
                    raise RequestError(f"{path} holds no JSON lines: {broken[0]}.")
                wanted = choose(list(dict.fromkeys(chain.from_iterable(records))), str(path))
            columns = {}
            for name in wanted:
                values = []
                for number, record in enumerate(records):
                    try:
                        values.append(_as_bytes(record.get(name)))
                    except TypeError as error:
                        values.append(None)
                        broken.setdefault(number, f"its `{name}` is {error}")
                columns[name] = pa.array(values, pa.binary())
            yield Part(pa.table(columns), broken, share())
    if wanted is None:
        raise RequestError(f"{path} holds no JSON lines: it is blank.")


def _parse_lines(lines: list[bytes | None]) -> tuple[list[dict[str, object]], dict[int, str]]:
    """The record of each line, an empty one for a broken line, and the reason for each of those by number."""
    records: list[dict[str, object]] = []
    broken: dict[int, str] = {}
    for number, line in enumerate(lines):
        try:
            if line is None:
                raise ValueError(LINE_TOO_LONG)
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError("one JSON object a line is expected")
        except (ValueError, RecursionError) as error:
            record, broken[number] = {}, f"it is not JSON: {one_line(error)}"
        records.append(record)
    return records, broken


def _as_bytes(value: object) -> bytes | None:
    """A JSON value as it would stand in a CSV file."""
    if value is None:
        return None
    if isinstance(value, str):
        # Half of a surrogate pair becomes bytes that are not UTF-8, for which the checks of rows have a message.
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, bool | int | float):
        return repr(int(value) if isinstance(value, bool) else value).encode()
    raise TypeError("neither text nor a number")
