"""What must hold on the nodes of a Ray cluster before they score: the same package, files and output folder as here."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from toxicity.core.errors import RequestError, one_line
from toxicity.predict.ledger import difference, writing_to
from toxicity.predict.outputs import IN_PROGRESS
from toxicity.predict.ray_actor import SECONDS_TO_APPEAR, Place


@contextmanager
def probe_in(output: Path) -> Iterator[Path]:
    """A new file in the output folder, in a folder of its own, so that no cache of what is there is older than it.

    Raises:
        RequestError: if it cannot be written.
    """
    folder = output / IN_PROGRESS / f"probe-{uuid.uuid4().hex}"
    probe = folder / "driver"
    with writing_to(output):
        if isinstance(output, Path):  # in an object store that would make a bucket, of a mistyped name too
            folder.mkdir(parents=True)
        probe.write_text("")
    try:
        yield probe
    finally:
        with suppress(OSError):  # as when the job is finished, which removes what is in progress
            # Some actors may have written beside it that were not heard any more.
            for file in folder.iterdir():
                file.unlink()
        if isinstance(output, Path):  # on an object store there are no folders, and removing one would take its files
            for left in (folder, folder.parent, output):
                with suppress(OSError):
                    left.rmdir()


def local_paths(names: Iterable[str]) -> list[str]:
    """The absolute paths of those names that are files or folders of this machine."""
    return [str(Path(name).absolute()) for name in names if Path(name).exists()]


def require_same_package(place: Place, sources: str) -> None:
    """Refuse a node whose sources of this package have another digest, or that lacks files."""
    if place.sources != sources:
        raise RequestError(
            "there is another version of this package: install the same everywhere, or take it away there, as Ray "
            "brings this one."
        )
    if place.unseen:
        raise RequestError(f"{place.unseen[0]} is not there: put it in a folder that all nodes share, or on the Hub.")


async def require_answer(answer: Path) -> None:
    """Wait for a file that an actor wrote beside the probe, and remove it.

    Raises:
        RequestError: if it does not appear.
    """
    until = time.monotonic() + SECONDS_TO_APPEAR
    while not answer.exists():
        if time.monotonic() > until:
            raise RequestError(
                "what it writes to --output is not seen by this command: name a folder that all nodes share, or an "
                "address such as s3://BUCKET/FOLDER."
            )
        await asyncio.sleep(0.1)
    answer.unlink()


def require_same_job(job: Mapping[str, Any], first: Mapping[str, Any]) -> None:
    """Refuse an actor whose scores for the same comment would differ from those of the first one."""
    if found := difference(job, first):
        raise RequestError(
            f"it would not give the same scores as the other workers: it has {found}. Use one kind of device, the same "
            "packages and the same model everywhere, and name the precision with --mixed_precision and what computes "
            "it with --runtime."
        )


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
