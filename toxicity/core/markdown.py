"""Markdown: tables, and text of strangers as code spans, so that none of it acts as markup."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from toxicity.core.console import QUOTED_CHARACTERS, SHOWN_CHARACTERS, printable

# How a number is shown that is not defined, such as the AUC of rows of one class.
UNDEFINED = "undefined"


class Table(NamedTuple):
    """A table as text, one tuple a row, for whatever writes it: Markdown, HTML or a terminal."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def code_span(text: str, width: int = SHOWN_CHARACTERS) -> str:
    """Untrusted text as one inline code span. Not for cells of a table.

    Nothing inside a code span is markup: no HTML, link, image, autolink, mention, footnote or emphasis. Two things
    could end the span: a run of backticks as long as the fence, so the fence is one longer than any of them; and the
    end of the line, so `printable` escapes line breaks, control characters and invisible ones. A cell of a table ends
    at `|` even inside a code span, and renderers disagree on how to escape it: there it is `code_cell`.
    Text of more than `width` characters ends in `…`.
    """
    # A code span cannot be empty.
    shown = printable(text, width) or " "
    fence = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    # CommonMark strips one space at each end if both ends have one; and a backtick must not touch the fence.
    padding = " " if shown[0] in "` " or shown[-1] in "` " else ""
    return f"{fence}{padding}{shown}{padding}{fence}"


def code_cell(text: str, width: int = QUOTED_CHARACTERS) -> str:
    """Untrusted text as a code span for a cell of a table, without the bars and backticks that would end one."""
    return f"`{printable(text, width).replace('`', chr(39)).replace('|', '¦').strip() or ' '}`"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its columns padded so that they also line up in a terminal."""
    rows = [header, *rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in padded]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def collapse_blank_lines(text: str) -> str:
    """Markdown with one blank line between blocks, where templates leave more, and one line feed at its end."""
    return re.sub(r"\n{3,}", "\n\n", text.strip("\n")) + "\n"
