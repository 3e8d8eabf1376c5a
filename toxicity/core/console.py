"""Logging and progress bars of a run, and comments made safe to print."""

from __future__ import annotations

import functools
import logging
import sys

SHOWN_CHARACTERS = 200
QUOTED_CHARACTERS = 60  # as many as the longest name of a column may have

logger = logging.getLogger(__name__)


def set_up_console(is_main_process: bool, progress_bars: bool) -> None:
    """Send log lines to standard error, from other ranks than the main one errors only.

    `datasets` and `transformers` draw no bars on other ranks, or without `progress_bars`.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    log = logging.getLogger("toxicity")
    log.handlers = [handler]
    log.propagate = False
    log.setLevel(logging.INFO if is_main_process else logging.ERROR)
    if not progress_bars or not is_main_process:
        # Here, as commands that only print tables should not wait for these imports.
        import datasets
        from transformers.utils import logging as transformers_logging

        datasets.disable_progress_bars()
        transformers_logging.disable_progress_bar()
    # A terminal that cannot encode a character of a comment prints an escape instead of raising an error.
    sys.stdout.reconfigure(errors="backslashreplace")


def printable(text: str, width: int = SHOWN_CHARACTERS) -> str:
    """A comment on one line, control characters as escapes, cut to `width` characters with `…` at the end."""
    shown = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text[: width + 1]
    )
    return shown if len(shown) <= width else shown[: width - 1] + "…"


def quoted(text: str, width: int = QUOTED_CHARACTERS) -> str:
    """A name or a value in a message: `printable`, and between backquotes."""
    return f"`{printable(text, width)}`"


@functools.cache
def log_once(level: int, message: str) -> None:
    """Log what is found in each of many files, the first time."""
    logger.log(level, message)


def h_mm_ss(seconds: float) -> str:
    """A duration as the published tables write it, `0:34:41`, rounded to whole seconds."""
    minutes, whole_seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{whole_seconds:02d}"
