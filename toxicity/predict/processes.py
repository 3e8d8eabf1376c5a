"""Score with this process, and with the others of `accelerate launch` or `torchrun`: each takes the next shard."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from toxicity.core import distributed
from toxicity.core.errors import RequestError
from toxicity.predict.ledger import difference
from toxicity.predict.outputs import Outputs
from toxicity.predict.progress import Progress
from toxicity.predict.score_shards import Failure, score_shards
from toxicity.predict.shards import Shard
from toxicity.predict.submission import Sample
from toxicity.predict.worker import Worker, load_worker


class Processes:
    """The processes of a launcher, or this one alone; all of them call the same methods together.

    Attributes:
        job: the description of the job, the same in all of them.
        count: how many there are.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self.job, self.count = worker.job, distributed.world_size()
        _require_same_scores(distributed.gather(worker.job))

    def score(self, shards: Sequence[Shard], outputs: Outputs, progress: Progress) -> dict[str, Failure]:
        """Score shards; returns those that failed in any process, by address.

        `progress` counts what this process scores.
        """
        scorer, options, _ = self._worker
        following = distributed.shared_counter()
        failed = score_shards(_taken(shards, following), scorer, outputs, options, progress)
        everywhere = {address: failure for part in distributed.gather(failed) for address, failure in part.items()}
        return {shard.address: everywhere[shard.address] for shard in shards if shard.address in everywhere}


@contextmanager
def launched_processes(arguments: argparse.Namespace, sample: Sample | None) -> Iterator[Processes]:
    """Load the model in all processes of the launcher; raises what `load_worker` raises."""
    yield Processes(distributed.run_on_all(lambda: load_worker(arguments, sample, distributed.device())))


def _taken(shards: Sequence[Shard], following: Callable[[], int]) -> Iterator[Shard]:
    """The shards that this process gets: the largest first, as then all of them end at about the same time."""
    largest_first = sorted(shards, key=lambda shard: -(shard.bytes or 0))
    while (number := following()) < len(largest_first):
        yield largest_first[number]


def _require_same_scores(jobs: Sequence[Mapping[str, Any]]) -> None:
    """Refuse processes whose scores for the same comment would differ; `jobs` are their descriptions of the job."""
    for process, job in enumerate(jobs):
        if found := difference(job, jobs[0]):
            raise RequestError(
                f"the processes would not give the same scores: process {process} has {found}. Use one kind of device, "
                "the same packages and the same model everywhere, and name the precision with --mixed_precision and "
                "what computes it with --runtime."
            )
