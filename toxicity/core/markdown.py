"""Untrusted text in a Markdown file: shown as it is, doing nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence

from toxicity.core.console import SHOWN_CHARACTERS, printable

# How a number is shown that is not defined, such as the AUC of rows of one class.
UNDEFINED = "undefined"


def code_span(text: str, width: int = SHOWN_CHARACTERS) -> str:
    """Text of strangers as one inline code span, for a line that is no row of a table.

    Nothing inside a code span is markup: no HTML, link, image, autolink, mention, footnote or emphasis. Two things
    could end it. One is a run of backticks as long as the fence, so the fence is one longer than any of them. The
    other is the end of the line, so `printable` has put escapes for line breaks, and for all that a terminal would
    obey or a reader not see. Cells of a table end at `|` even inside a code span, and renderers do not agree on how
    to escape it after a backslash: there, nothing of this kind goes.

    Args:
        text: anything.
        width: characters to show; longer text ends in `…`.

    Returns:
        One line of CommonMark that renders as a single `<code>` element.
    """
    # A span cannot be empty.
    shown = printable(text, width) or " "
    fence = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    # One space is taken off at each end where there is one at both, and a backtick must not touch the fence.
    padding = " " if shown[0] in "` " or shown[-1] in "` " else ""
    return f"{fence}{padding}{shown}{padding}{fence}"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns also line up in a terminal."""
    rows = [header, *rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in padded]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)
