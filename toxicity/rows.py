"""The row of a run: the version of its file, and how it is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# Of benchmark.json. A new key is no new version; a key that is gone or means something else is.
SCHEMA_VERSION = 1

# How a number is shown that is not defined, such as the AUC of rows of one class.
UNDEFINED = "undefined"


def benchmark_table(benchmarks: Sequence[Mapping[str, Any]]) -> str:
    """Runs as a Markdown table with the columns of the published one."""
    header = ("Machine", "Epochs", "Tokenizer Time", "Training Time", "Inference Time", "AUC Score")
    return markdown_table(
        header,
        [
            (
                row["machine"]["label"],
                f"{row['protocol']['epochs']:g}",
                h_mm_ss(row["timing"]["tokenizer_seconds"])
                + (" (cached)" if row["timing"]["tokenizer_cache_hit"] else ""),
                h_mm_ss(row["timing"]["training_seconds"]),
                h_mm_ss(row["timing"]["inference_seconds"]),
                UNDEFINED if row["metrics"]["auc"] is None else f"{row['metrics']['auc']:.5f}",
            )
            for row in benchmarks
        ],
    )


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns also line up in a terminal."""
    rows = [header, *rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in padded]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def h_mm_ss(seconds: float) -> str:
    """Write a duration as the published tables do, `0:34:41`, rounded to whole seconds."""
    minutes, whole_seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{whole_seconds:02d}"
