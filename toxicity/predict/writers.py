"""Scores → files: parquet, CSV or JSON lines, seen under their names only when they are whole."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet

from toxicity.core.files import written_whole

# A spreadsheet takes a cell that begins so (four of them are full-width) for a formula, and runs it; a number is safe.
# Where it separates cells by semicolons or tabs, text goes on in further cells.
FORMULA = re.compile(r"^(?=[=+\-@＝＋－＠\t\r\n])|(?<=[;\t\r\n])(?=[=+\-@＝＋－＠])")
NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")

Write = Callable[[pa.Table], object]


@contextmanager
def output_file(path: Path, schema: pa.Schema) -> Iterator[Write]:
    """Open a file for tables of this schema, in the format that its name ends in.

    It is written under a hidden name and renamed when the block ends well, so that a reader finds a whole file or
    none. The same tables make the same bytes.

    CSV has an empty cell for a null, and an apostrophe before what a spreadsheet would take for a formula: text that is
    not a number and begins with `=`, `+`, `-`, `@`, a tab or a line end, or goes on with one of the first four after a
    semicolon, a tab or a line end.

    Args:
        path: ends in `.parquet`, `.csv` or `.jsonl`.
        schema: of all the tables.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        written_whole(path) as unfinished,
        unfinished.open("wb") as file,
        WRITERS[path.suffix](file, schema) as write,
    ):
        yield write


@contextmanager
def _parquet(file: IO[bytes], schema: pa.Schema) -> Iterator[Write]:
    with pyarrow.parquet.ParquetWriter(file, schema) as writer:
        yield writer.write_table


@contextmanager
def _csv(file: IO[bytes], schema: pa.Schema) -> Iterator[Write]:
    with TextIOWrapper(file, encoding="utf-8", newline="") as text:
        # With line ends of one character, Python leaves the other one in a text unquoted.
        writer = csv.writer(text, lineterminator="\r\n")
        writer.writerow(schema.names)

        def write(table: pa.Table) -> None:
            columns = [map(_harmless, column.to_pylist()) for column in table.columns]
            writer.writerows(zip(*columns, strict=True))

        yield write


@contextmanager
def _json_lines(file: IO[bytes], schema: pa.Schema) -> Iterator[Write]:
    with TextIOWrapper(file, encoding="utf-8", newline="") as text:
        yield lambda table: text.writelines(f"{json.dumps(row, ensure_ascii=False)}\n" for row in table.to_pylist())


def _harmless(value: object) -> object:
    if isinstance(value, str) and not NUMBER.fullmatch(value):
        return FORMULA.sub("'", value)
    return value


WRITERS = {".parquet": _parquet, ".csv": _csv, ".jsonl": _json_lines}
