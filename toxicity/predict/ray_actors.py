"""Score with actors of a Ray cluster: one on each GPU, or on a few cores. Ray places them; lost ones are replaced."""

from __future__ import annotations

import argparse
import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toxicity.core import distributed
from toxicity.core.console import log_once
from toxicity.core.errors import RequestError, RunFailure, one_line
from toxicity.predict.outputs import Outputs
from toxicity.predict.processes import require_same_scores
from toxicity.predict.progress import SECONDS_BETWEEN_LINES, Progress
from toxicity.predict.ray_actor import ScoringActor, digest_of_sources, probe_in
from toxicity.predict.ray_cluster import connected, living_nodes, room_for, size_of_actors
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
    """Actors that hold the model of a job; for each a task calls it, and replaces it when it is lost.

    Args:
        arguments: the parsed command line.
        sample: the competition's sample of a submission, if there is one.
        probe: a file in the output folder, which the nodes must see.
        runner: runs the tasks, until there is a first model, and while shards are scored.

    Attributes:
        job: the description of the job, the same in all of them.
    """

    def __init__(
        self, arguments: argparse.Namespace, sample: Sample | None, probe: Path, runner: asyncio.Runner
    ) -> None:
        import ray

        self._runner, self._here = runner, ray.get_runtime_context().get_node_id()
        paths = [str(Path(name).absolute()) for name in (arguments.model, *arguments.input) if Path(name).exists()]
        self._must_have = Path.cwd(), digest_of_sources(), paths, probe
        self._size = size = size_of_actors(arguments.ray_num_cpus, computed_on_cpu(arguments))
        actor = ray.remote(ScoringActor).options(num_cpus=size.cores, num_gpus=size.gpus, max_concurrency=CALLS + 1)
        self._ask_for = lambda: actor.remote(arguments, sample, max(1, size.cores), bool(size.gpus))
        self.job: dict[str, Any] = {}
        self._outputs: Outputs | None = None  # until there is something to score
        self._progress, self._queue = Progress(0), ShardQueue([], living_nodes)
        self._failed: dict[str, Failure] = {}
        self._actors: set[_Actor] = set()
        self._tasks: list[asyncio.Task] = []
        self._loss = ""  # why the last actor was lost
        self._changed = asyncio.Event()
        runner.run(self._until(lambda: self.job))

    def score(self, shards: Sequence[Shard], outputs: Outputs, progress: Progress) -> dict[str, Failure]:
        """Score shards; returns those that failed, by address. `progress` counts what all actors score.

        Raises:
            RunFailure: if no actor is left, and Ray cannot place any for long. What was scored is kept.
        """
        self._outputs, self._progress = outputs, progress
        self._queue = ShardQueue(shards, living_nodes)
        self._tell_all()
        self._runner.run(self._until(lambda: not self._queue.left))
        for actor in self._actors:
            self._count(actor, actor.finished)
        return {shard.address: self._failed[shard.address] for shard in shards if shard.address in self._failed}

    async def _until(self, condition: Callable[[], object]) -> None:
        """Have actors work until a condition holds; raises what any task raises."""
        kept = "" if self._outputs is None else " What is scored is kept: the same command goes on with the rest."
        placed = time.monotonic()
        while not condition():
            more = room_for(self._size) - len(self._tasks)  # the cluster may have grown
            if more > 0:
                logger.info(f"Asked Ray for workers: {more:,}, each with {self._size.told}.")
            self._tasks += [asyncio.ensure_future(self._keep_one_at_work()) for _ in range(more)]
            ended = [task.result() for task in self._tasks if task.done()]
            if len(ended) == len(self._tasks):
                raise RunFailure(f"all workers of Ray died before they could score: {self._loss}{kept}")
            if any(actor.node_id for actor in self._actors):
                placed = time.monotonic()
            if time.monotonic() - placed > PATIENCE_SECONDS:
                raise RunFailure(
                    f"Ray found no place for a worker with {self._size.told} in {PATIENCE_SECONDS / 60:.0f} minutes: "
                    f"see `ray status`, or ask for less with --ray_num_cpus.{kept}"
                )
            if time.monotonic() - placed > SECONDS_BETWEEN_LINES:
                log_once(logging.INFO, f"Waiting for Ray to find a place for a worker with {self._size.told}.")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), SECONDS_BETWEEN_LOOKS)

    def _tell_all(self) -> None:
        """Wake up all that wait for a change."""
        self._changed.set()
        self._changed = asyncio.Event()

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
                actor.node, actor.node_id = await actor.handle.place.remote(*self._must_have)
                job = await actor.handle.load.remote()
                require_same_scores(job, self.job or job, f"one on node {actor.node}")
                self.job, starts = job, 0
                self._tell_all()
                await self._follow(actor)
            except (RequestError, RayError) as error:
                self._loss, refusal = _reason_of(error), _refusal_in(error)
                if refusal is not None:
                    told = refusal if actor.node_id in ("", self._here) else f"node {actor.node}: {refusal}"
                    if self._outputs is None:
                        raise RequestError(told) from error
                    logger.error(f"Not used for this job: {told}")
                    break
                if actor.node:
                    logger.warning(f"Lost a worker on node {actor.node}, and asked for another: {self._loss}")
            finally:
                self._count(actor, actor.finished)
                self._actors.discard(actor)
                ray.kill(actor.handle)
                self._tell_all()
            await asyncio.sleep(starts)

    async def _follow(self, actor: _Actor) -> None:
        """Have an actor work, and tell what it does, for as long as it lives; raises why it does not."""
        work = asyncio.ensure_future(self._work(actor))
        try:
            while not work.done():
                await self._report(actor)
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
            failed, rows, input_bytes = await actor.handle.score.remote(shards, self._outputs)
            await self._report(actor)
        except BaseException:
            for shard in self._queue.put_back(shards, actor.node_id):
                reason = f"{MOST_DEATHS} workers died when they scored it ({self._loss})"
                logger.error(f"Failed: {shard.address}: {reason}")
                self._failed[shard.address] = Failure(reason, refused=False)
                self._progress.add(0, shard.bytes or 0)
            self._tell_all()
            raise
        actor.finished = actor.finished[0] + rows, actor.finished[1] + input_bytes
        self._failed |= failed
        self._queue.finish(shards)
        if not self._queue.left:
            self._tell_all()

    async def _report(self, actor: _Actor) -> None:
        rows, input_bytes, records = await actor.handle.report.remote()
        self._count(actor, (rows, input_bytes))
        for record in records:  # what several actors say alike, once
            log_once(record.levelno, record.getMessage())

    def _count(self, actor: _Actor, done: tuple[int, float]) -> None:
        """Add to the progress what an actor has done since the last time; of a lost one, take back what others do."""
        self._progress.add(done[0] - actor.counted[0], done[1] - actor.counted[1])
        actor.counted = done


@contextmanager
def ray_actors(arguments: argparse.Namespace, sample: Sample | None) -> Iterator[RayActors]:
    """Connect to a cluster, or start one on this machine, and load the model on its actors.

    Raises:
        RequestError: if this process has others beside it, if there is no cluster to connect to, if a node lacks
            something, with what, or what `load_worker` raises there.
        RunFailure: if Ray cannot place any actor for long, or they die before they have loaded the model.
    """
    if distributed.world_size() > 1:
        raise RequestError("--engine ray starts processes itself: start this command with python -m, without launcher.")
    # Removed when no actor is left that could still write beside it.
    with probe_in(arguments.output.absolute()) as probe, connected(arguments.ray_address), asyncio.Runner() as runner:
        yield RayActors(arguments, sample, probe, runner)


def _refusal_in(error: Exception) -> str | None:
    """Why an actor must not do this job; None for an error that another one may not have."""
    cause = getattr(error, "cause", error)  # of Ray's error for what the actor's own code raised, that one
    if isinstance(cause, RequestError):
        return str(cause)
    # It is created with its imports alone.
    if isinstance(cause, ImportError) or "creation task" in str(error):
        lacks = str(cause).strip().splitlines()[-1]
        return f"what this package needs cannot be imported ({lacks}): install there what is installed here."
    return None


def _reason_of(error: Exception) -> str:
    """What ended an actor, without the ids that Ray lists in front of it."""
    if cause := getattr(error, "cause", None):
        return f"{type(cause).__name__}: {one_line(cause)}"
    told = " ".join(str(error).split())
    return told[max(0, told.find("The actor is dead because")) :][:200]
