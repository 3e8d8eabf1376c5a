"""How a run ends: the exit codes of the contract, and the exceptions that carry a message for the user."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_FAILED = 1
EXIT_REFUSED = 2
# EX_TEMPFAIL of sysexits.h: try again later.
EXIT_INTERRUPTED = 75


class RequestError(Exception):
    """What was asked for cannot work here. The message is a line or two that name the fix."""


class PublishError(Exception):
    """The run is whole on this disk and not, or not all of it, on the Hub. The message names what goes on from here."""


class RunFailure(Exception):
    """The run cannot go on. The message names what happened, what is kept, and what to do."""


class Interrupted(SystemExit):
    """The run was asked to stop, and has saved what it had. The message says where."""

    def __init__(self, message: str) -> None:
        super().__init__(EXIT_INTERRUPTED)
        self.message = message


@contextmanager
def refusals_exit_cleanly() -> Iterator[None]:
    """Turn the exceptions above into their message on standard error and their exit code, with no traceback."""
    try:
        yield
    except (RequestError, PublishError) as error:
        # All processes find the same fault; one of them says so.
        if os.environ.get("RANK", "0") == "0":
            print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_REFUSED if isinstance(error, RequestError) else EXIT_FAILED)
    except RunFailure as error:
        # Here it may be one process alone that knows.
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(EXIT_FAILED)
    except Interrupted as stop:
        if os.environ.get("RANK", "0") == "0":
            print(stop.message, file=sys.stderr, flush=True)
        raise
