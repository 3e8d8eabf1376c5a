"""Score with actors of a Ray cluster: one on each GPU, or on a few cores. Ray places them; lost ones are replaced."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from toxicity.core.errors import RequestError
from toxicity.predict.outputs import Outputs
from toxicity.predict.progress import Progress
from toxicity.predict.score_shards import Failure
from toxicity.predict.shards import Shard
from toxicity.predict.submission import Sample


class RayActors:
    """Actors that hold the model of a job.

    Attributes:
        job: the description of the job, the same in all of them.
        count: how many were asked for.
    """

    job: dict[str, Any]
    count: int

    def score(self, shards: Sequence[Shard], outputs: Outputs, progress: Progress) -> dict[str, Failure]:
        """Score shards; returns those that failed, by address. `progress` counts what all actors score."""
        raise RequestError("not yet")


@contextmanager
def ray_actors(arguments: argparse.Namespace, sample: Sample | None) -> Iterator[RayActors]:
    """Connect to a cluster, or start one on this machine, and load the model on its actors."""
    raise RequestError("not yet")
    yield RayActors()
