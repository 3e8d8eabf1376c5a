"""How a run ends: the exit codes of the contract, and the exceptions that carry a message for the user."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_FAILED = 1
EXIT_REFUSED = 2
# EX_TEMPFAIL of sysexits.h: try again later.
EXIT_INTERRUPTED = 75

# By then a launcher has ended the other processes, if the first one found the same fault.
SECONDS_FOR_THE_FIRST = 3.0


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


def one_line(error: BaseException) -> str:
    """The message of an error of another library, on one line of at most 200 characters."""
    return " ".join(str(error).split())[:200]


@contextmanager
def refusals_exit_cleanly() -> Iterator[None]:
    """Turn the exceptions above into their message on standard error and their exit code, with no traceback.

    Of several processes that are refused alike the first one speaks, and the launcher ends the others while they wait;
    one that is still there after the wait is alone with its fault, and says so with its number.
    """
    rank = os.environ.get("RANK", "0")
    speaker = "error" if rank == "0" else f"error in process {rank}"
    try:
        yield
    except (RequestError, PublishError) as error:
        if rank != "0":
            time.sleep(SECONDS_FOR_THE_FIRST)
        print(f"{speaker}: {error}", file=sys.stderr, flush=True)
        sys.exit(EXIT_REFUSED if isinstance(error, RequestError) else EXIT_FAILED)
    except RunFailure as error:
        # At once: the others may be leaving because of it.
        print(f"{speaker}: {error}", file=sys.stderr, flush=True)
        sys.exit(EXIT_FAILED)
    except Interrupted as stop:
        if rank == "0":
            print(stop.message, file=sys.stderr, flush=True)
        raise
