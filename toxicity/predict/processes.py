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
        jobs = distributed.gather(worker.job)
        for process, job in enumerate(jobs):
            require_same_scores(job, jobs[0], f"process {process}")

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


def require_same_scores(job: Mapping[str, Any], first: Mapping[str, Any], who: str) -> None:
    """Refuse a process whose scores for the same comment would differ from those of the first one."""
    if found := difference(job, first):
        raise RequestError(
            f"the processes would not give the same scores: {who} has {found}. Use one kind of device, the same "
            "packages and the same model everywhere, and name the precision with --mixed_precision and what computes "
            "it with --runtime."
        )
