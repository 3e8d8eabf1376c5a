"""How a run ends: the exit codes, and the exceptions whose message is shown to the user without a traceback."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_FAILED = 1
EXIT_REFUSED = 2
# EX_TEMPFAIL of sysexits.h: try again later.
EXIT_INTERRUPTED = 75
# As shells have it: 128 and the number of the signal.
EXIT_CTRL_C = 130

# How long the other ranks wait before they report an error. If rank 0 has the same one, the launcher ends them first.
HEAD_START_SECONDS = 3.0


class RequestError(Exception):
    """The request cannot work here. The message is a line or two that name the fix."""


class PublishError(Exception):
    """The run is complete on this disk, but not on the Hub. The message says how to publish what is missing."""


class RunFailure(Exception):
    """The run cannot go on. The message says what happened, what is kept, and what to do."""


class Interrupted(SystemExit):
    """The run was asked to stop and has saved a checkpoint. The message says where."""

    def __init__(self, message: str) -> None:
        super().__init__(EXIT_INTERRUPTED)
        self.message = message


def one_line(error: BaseException) -> str:
    """The message of another library's error, on one line of at most 200 characters."""
    return " ".join(str(error).split())[:200]


@contextmanager
def refusals_exit_cleanly() -> Iterator[None]:
    """Turn the exceptions above into their message on standard error and their exit code, without a traceback.

    So for Ctrl-C, whose exit code is 130; whoever knows what is kept raises `KeyboardInterrupt` anew, with a message.
    A further Ctrl-C, while threads and files are closed, ends the process at once.

    An error in the request is usually found by every rank. So that it is reported once, the other ranks give rank 0 a
    head start, in which the launcher ends them; a rank that is still running then has an error of its own, and reports
    it with its number.
    """
    rank = os.environ.get("RANK", "0")
    prefix = "error" if rank == "0" else f"error in process {rank}"
    try:
        yield
    except (RequestError, PublishError, RunFailure) as error:
        # Without waiting if the run failed: the other ranks may be stopping because of this one.
        if rank != "0" and not isinstance(error, RunFailure):
            time.sleep(HEAD_START_SECONDS)
        print(f"{prefix}: {error}", file=sys.stderr, flush=True)
        sys.exit(EXIT_REFUSED if isinstance(error, RequestError) else EXIT_FAILED)
    except KeyboardInterrupt as stop:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if rank == "0":
            print(str(stop) or "Interrupted by Ctrl-C.", file=sys.stderr, flush=True)
        sys.exit(EXIT_CTRL_C)
    except Interrupted as stop:
        if rank == "0":
            print(stop.message, file=sys.stderr, flush=True)
        raise
