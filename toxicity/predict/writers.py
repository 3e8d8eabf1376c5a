"""Write tables of scores to parquet, CSV or JSON lines files, which appear under their names when they are complete."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from toxicity.core.files import written_whole

# A spreadsheet runs a cell that begins with one of these characters (four of them are full-width) as a formula, unless
# it is a number. If the spreadsheet splits cells at semicolons or tabs, the text after one begins a new cell.
FORMULA = re.compile(r"^(?=[=+\-@＝＋－＠\t\r\n])|(?<=[;\t\r\n])(?=[=+\-@＝＋－＠])")
NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")

Write = Callable[[pa.Table], object]


@contextmanager
def output_file(path: Path, schema: pa.Schema) -> Iterator[Write]:
    """Open a file to write tables of a schema to; the value of the context is a function that writes one.

    The ending of its name, `.parquet`, `.csv` or `.jsonl`, determines the format. The file appears under that name when
    the block ends without an error, so that readers never see an incomplete one. The same tables give the same bytes.

    In CSV, a null is an empty cell, and an apostrophe precedes what a spreadsheet would run as a formula: text that is
    not a number and begins with `=`, `+`, `-`, `@`, a tab or a line end, or has one of the first four after a
    semicolon, a tab or a line end. What JSON has no type for, such as a time, is text in both, as in ISO 8601.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as unfinished:
        if path.suffix == ".parquet":
            # Arrow's own file: one of its threads might drop a Python file while the interpreter exits.
            with (
                pa.OSFile(os.fsencode(unfinished), "wb") as sink,
                pyarrow.parquet.ParquetWriter(sink, schema) as writer,
            ):
                yield writer.write_table
        else:
            with unfinished.open("w", encoding="utf-8", newline="") as file:
                yield _csv_writer(file, schema) if path.suffix == ".csv" else _json_lines_writer(file)


def _csv_writer(file: IO[str], schema: pa.Schema) -> Write:
    # With line ends of one character, Python's writer would not quote texts that contain the other one.
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow(map(_without_formula, schema.names))
    return lambda table: writer.writerows(
        zip(*(map(_without_formula, column.to_pylist()) for column in table.columns), strict=True)
    )


def _json_lines_writer(file: IO[str]) -> Write:
    def write(table: pa.Table) -> None:
        rows = pa.table([_without_nan(column) for column in table.columns], names=table.column_names).to_pylist()
        file.writelines(f"{json.dumps(row, ensure_ascii=False, default=_as_text)}\n" for row in rows)

    return write


def _without_nan(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """What is no number becomes null, as JSON has no other word for it."""
    return pc.if_else(pc.is_nan(column), None, column) if pa.types.is_floating(column.type) else column


def _as_text(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _without_formula(value: object) -> object:
    if isinstance(value, str):
        return value if NUMBER.fullmatch(value) else FORMULA.sub("'", value)
    return value if value is None or isinstance(value, bool | int | float) else _as_text(value)
