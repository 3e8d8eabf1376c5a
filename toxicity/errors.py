"""How a run ends: the exit codes of the contract, and the one exception that carries a message for the user."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_FAILED = 1
EXIT_REFUSED = 2


class RequestError(Exception):
    """What was asked for cannot work here. The message is a line or two that name the fix."""


@contextmanager
def refusals_exit_cleanly() -> Iterator[None]:
    """Turn a `RequestError` into its message on standard error and exit code 2, with no traceback."""
    try:
        yield
    except RequestError as error:
        # All processes find the same fault; one of them says so.
        if os.environ.get("RANK", "0") == "0":
            print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_REFUSED)
