"""Score with actors of a Ray cluster: one on each GPU, or on a few cores. Ray places them; lost ones are replaced."""

from __future__ import annotations

import argparse
import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toxicity.core import distributed
from toxicity.core.console import log_once
from toxicity.core.errors import RequestError, RunFailure
from toxicity.predict.outputs import Outputs
from toxicity.predict.processes import require_same_scores
from toxicity.predict.progress import SECONDS_BETWEEN_LINES, Progress
from toxicity.predict.ray_actor import ScoringActor, appears, digest_of_sources
from toxicity.predict.ray_checks import probe_in, reason_of_loss, refusal_in
from toxicity.predict.ray_cluster import Size, connected, living_nodes, room_for, size_of_actors
from toxicity.predict.ray_queue import MOST_DEATHS, ShardQueue
from toxicity.predict.score_shards import Failure
from toxicity.predict.shards import Shard
from toxicity.predict.submission import Sample
from toxicity.predict.worker import computed_on_cpu

# An actor scores what one call gave it while another one reads; a third asks for its progress.
CALLS = 2
SECONDS_BETWEEN_REPORTS = 1.0
# An actor that dies so often in a row before it has loaded the model is not replaced any more.
MOST_STARTS = 3
# How long there may be no actor at all: machines of a cloud take minutes to come.
PATIENCE_SECONDS = 600.0
SECONDS_BETWEEN_LOOKS = 5.0

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class _Actor:
    """What the driver knows of one actor."""

    handle: Any
    node: str = ""  # the name of its machine
    node_id: str = ""  # empty as long as Ray has not placed it
    takes_more: bool = False
    finished: tuple[int, float] = (0, 0.0)  # rows and input bytes of the calls that have returned
    counted: tuple[int, float] = (0, 0.0)  # those that the progress shows


class RayActors:
    """Actors that hold the model of a job.

    Each has a task of the event loop, which calls it, and replaces it when it is lost. The loop runs until there is a
    first model, and then while shards are scored.

    Args:
        arguments: the parsed command line.
        sample: the competition's sample of a submission, if there is one.
        size: what each actor takes of its node.
        probe: a file in the output folder, which the nodes must see.

    Attributes:
        job: the description of the job, the same in all of them.

    Raises:
        RequestError: if a node lacks something, with what, or what `load_worker` raises there.
        RunFailure: if Ray cannot place any for long, or they die before they have loaded the model.
    """

    def __init__(self, arguments: argparse.Namespace, sample: Sample | None, size: Size, probe: Path) -> None:
        import ray

        self._here, self._size, self._probe = ray.get_runtime_context().get_node_id(), size, probe
        self._must_have = Path.cwd(), digest_of_sources(), local_paths([arguments.model, *arguments.input])
        actor = ray.remote(ScoringActor).options(num_cpus=size.cores, num_gpus=size.gpus, max_concurrency=CALLS + 1)
        self._ask_for = lambda: actor.remote(arguments, sample, max(1, size.cores), bool(size.gpus))
        self.job: dict[str, Any] = {}
        self._outputs: Outputs | None = None  # until there is something to score
        self._progress, self._queue = Progress(0), ShardQueue([], living_nodes)
        self._actors: set[_Actor] = set()
        self._failed: dict[str, Failure] = {}
        self._loss = ""  # why the last actor was lost
        self._loop, self._changed = asyncio.new_event_loop(), asyncio.Event()
        self._tasks: list[asyncio.Task] = []
        try:
            self._grow()
            logger.info(f"Asked Ray for workers: {len(self._tasks):,}, each with {size.told}.")
            self._run_until(lambda: self.job)
        except BaseException:
            self.close()
            raise

    def score(self, shards: Sequence[Shard], outputs: Outputs, progress: Progress) -> dict[str, Failure]:
        """Score shards; returns those that failed, by address. `progress` counts what all actors score.

        Raises:
            RunFailure: if no actor is left, and Ray cannot place any for long. What was scored is kept.
        """
        self._outputs, self._progress = outputs, progress
        self._queue = ShardQueue(shards, living_nodes)
        self._tell_all()
        self._run_until(lambda: not self._queue.left)
        for actor in self._actors:
            self._count(actor, actor.finished)
        return {shard.address: self._failed[shard.address] for shard in shards if shard.address in self._failed}

    def close(self) -> None:
        """Stop calling the actors; they end with the connection to the cluster."""
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, *self._tasks, return_exceptions=True))

    def _run_until(self, condition: Callable[[], object]) -> None:
        """Run the loop until a condition holds; raises what any task raises."""
        self._loop.run_until_complete(self._until(condition))

    async def _until(self, condition: Callable[[], object]) -> None:
        kept = "" if self._outputs is None else " What is scored is kept: the same command goes on with the rest."
        placed = told = time.monotonic()
        while not condition():
            ended = [task.result() for task in self._tasks if task.done()]
            if len(ended) == len(self._tasks):
                raise RunFailure(f"all workers of Ray died before they could score: {self._loss}{kept}")
            now = time.monotonic()
            if any(actor.node_id for actor in self._actors):
                placed = told = now
            elif now - placed > PATIENCE_SECONDS:
                raise RunFailure(
                    f"Ray found no place for a worker with {self._size.told} in {PATIENCE_SECONDS / 60:.0f} minutes: "
                    f"see `ray status`, or ask for less with --ray_num_cpus.{kept}"
                )
            elif now - told > SECONDS_BETWEEN_LINES:
                told = now
                logger.info(f"Waiting for Ray to find a place for a worker with {self._size.told}.")
            if self._queue:
                self._grow()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), SECONDS_BETWEEN_LOOKS)

    def _tell_all(self) -> None:
        """Wake up all that wait for a change."""
        self._changed.set()
        self._changed = asyncio.Event()

    def _grow(self) -> None:
        """Ask for as many actors as the cluster has room for, which may have become more."""
        for _ in range(room_for(self._size) - len(self._tasks)):
            self._tasks.append(self._loop.create_task(self._keep_one_at_work()))
            self._tasks[-1].add_done_callback(lambda _: self._tell_all())

    async def _keep_one_at_work(self) -> None:
        """Get an actor to work; when it is lost, replace it, unless it always dies before it has loaded the model."""
        import ray
        from ray.exceptions import RayError

        starts = 0
        while starts < MOST_STARTS:
            actor = _Actor(self._ask_for())
            self._actors.add(actor)
            starts += 1
            try:
                await self._prepare(actor)
                starts = 0
                await self._follow(actor)
            except (RequestError, RayError) as error:
                self._loss, refusal = reason_of_loss(error), refusal_in(error)
                if refusal is not None:
                    told = refusal if actor.node_id in ("", self._here) else f"node {actor.node}: {refusal}"
                    if self._outputs is None:
                        raise RequestError(told) from error
                    logger.error(f"Not used for this job: {told}")
                    return
                if actor.node:
                    logger.warning(f"Lost a worker on node {actor.node}, and asked for another: {self._loss}")
            finally:
                self._count(actor, actor.finished)
                self._actors.discard(actor)
                ray.kill(actor.handle)
            await asyncio.sleep(starts)

    async def _prepare(self, actor: _Actor) -> None:
        """Check that an actor can do this job, and load its model."""
        answer = uuid.uuid4().hex
        actor.node, actor.node_id = await actor.handle.place.remote(*self._must_have, self._probe, answer)
        if not await asyncio.to_thread(appears, self._probe.with_name(answer)):
            raise RequestError(
                "what it writes to --output is not seen by this command: name a folder that all nodes share, or an "
                "address such as s3://BUCKET/FOLDER."
            )
        job, records = await actor.handle.load.remote()
        _log(records)
        require_same_scores(job, self.job or job, f"one on node {actor.node}")
        self.job = self.job or job
        self._tell_all()

    async def _follow(self, actor: _Actor) -> None:
        """Have an actor work, and tell its progress, for as long as it lives; raises why it does not."""
        work = asyncio.ensure_future(self._work(actor))
        try:
            while not work.done():
                rows, input_bytes, records = await actor.handle.progress.remote()
                _log(records)
                self._count(actor, (rows, input_bytes))
                await asyncio.wait([work], timeout=SECONDS_BETWEEN_REPORTS)
            await work
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    async def _work(self, actor: _Actor) -> None:
        while True:
            while shards := self._queue.take_alone():
                await self._score(actor, shards)
            actor.takes_more = True
            await asyncio.gather(*(self._feed(actor) for _ in range(CALLS)))
            if not self._queue:
                await self._changed.wait()

    async def _feed(self, actor: _Actor) -> None:
        while actor.takes_more and (shards := self._queue.take(len(self._tasks))):
            await self._score(actor, shards)
        # The other calls shall end, too, and this one begin again with them.
        actor.takes_more = False

    async def _score(self, actor: _Actor, shards: Sequence[Shard]) -> None:
        try:
            failed, rows, input_bytes, records = await actor.handle.score.remote(shards, self._outputs)
        except BaseException:
            for shard in self._queue.put_back(shards, actor.node_id):
                reason = f"{MOST_DEATHS} workers died when they scored it ({self._loss})"
                logger.error(f"Failed: {shard.address}: {reason}")
                self._failed[shard.address] = Failure(reason, refused=False)
                self._progress.add(0, shard.bytes or 0)
            self._tell_all()
            raise
        _log(records)
        actor.finished = actor.finished[0] + rows, actor.finished[1] + input_bytes
        self._failed |= failed
        self._queue.finish(shards)
        if not self._queue.left:
            self._tell_all()

    def _count(self, actor: _Actor, now: tuple[int, float]) -> None:
        """Add to the progress what an actor has done since the last time; of a lost one, take back what others do."""
        self._progress.add(now[0] - actor.counted[0], now[1] - actor.counted[1])
        actor.counted = now


@contextmanager
def ray_actors(arguments: argparse.Namespace, sample: Sample | None) -> Iterator[RayActors]:
    """Connect to a cluster, or start one on this machine, and load the model on its actors.

    Raises:
        RequestError: if this process has others beside it, if there is no cluster to connect to, or if its nodes cannot
            do the job.
        RunFailure: if actors cannot be placed, or die at once.
    """
    if distributed.world_size() > 1:
        raise RequestError("--engine ray starts processes itself: start this command with python -m, without launcher.")
    # Removed when no actor is left that could still write beside it.
    with probe_in(arguments.output.absolute()) as probe, connected(arguments.ray_address):
        size = size_of_actors(arguments.ray_num_cpus, computed_on_cpu(arguments))
        with closing(RayActors(arguments, sample, size, probe)) as actors:
            yield actors


def local_paths(names: Sequence[str]) -> list[str]:
    """The absolute paths of those names that are files or folders of this machine."""
    return [str(Path(name).absolute()) for name in names if Path(name).exists()]


def _log(records: Sequence[logging.LogRecord]) -> None:
    """Log what actors logged; what several of them say alike, once."""
    for record in records:
        log_once(record.levelno, record.getMessage())
