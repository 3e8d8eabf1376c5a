"""What the driver of a Ray cluster checks: that nodes see its output folder, and why an actor is of no use."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from toxicity.core.errors import RequestError, one_line
from toxicity.predict.output_folder import is_local, names_below, remove, writing_to
from toxicity.predict.outputs import IN_PROGRESS


@contextmanager
def probe_in(output: Path) -> Iterator[Path]:
    """A new file in the output folder, in a folder of its own, so that no cache of what is there is older than it.

    Raises:
        RequestError: if it cannot be written.
    """
    probe = output / IN_PROGRESS / f"probe-{uuid.uuid4().hex}" / "driver"
    with writing_to(output):
        if is_local(output):
            probe.parent.mkdir(parents=True)
        probe.write_text("")
    try:
        yield probe
    finally:
        # What was made for it goes, also what actors wrote that were not heard any more.
        with suppress(Exception):
            remove(probe.parent, names_below(probe.parent, ""))
        for folder in (probe.parent, probe.parent.parent, output) if is_local(output) else ():
            with suppress(OSError):
                folder.rmdir()


def refusal_in(error: Exception) -> str | None:
    """Why an actor must not do this job; None for an error that another one may not have."""
    cause = getattr(error, "cause", error)  # of Ray's error for what the actor's own code raised, that one
    if isinstance(cause, RequestError):
        return str(cause)
    # It is created with its imports alone.
    if isinstance(cause, ImportError) or "creation task" in str(error):
        lacks = str(cause).strip().splitlines()[-1]
        return f"what this package needs cannot be imported ({lacks}): install there what is installed here."
    return None


def reason_of_loss(error: Exception) -> str:
    """What ended an actor, without the ids that Ray lists in front of it."""
    if cause := getattr(error, "cause", None):
        return f"{type(cause).__name__}: {one_line(cause)}"
    told = " ".join(str(error).split())
    return told[max(0, told.find("The actor is dead because")) :][:200]
