"""Score with actors of a Ray cluster: one on each GPU, or on a few cores. Ray places them; lost ones are replaced."""

from __future__ import annotations

import argparse
import asyncio
import copy
import dataclasses
import logging
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toxicity.core import distributed
from toxicity.core.console import log_once
from toxicity.core.errors import RequestError, RunFailure
from toxicity.predict.outputs import Outputs
from toxicity.predict.progress import SECONDS_BETWEEN_LINES, Progress
from toxicity.predict.ray_actor import Report, ScoringActor, digest_of_sources
from toxicity.predict.ray_checks import (
    local_paths,
    probe_in,
    reason_of_loss,
    refusal_in,
    require_answer,
    require_same_job,
    require_same_package,
)
from toxicity.predict.ray_cluster import Size, connected, living_nodes, room_for, size_of_actors
from toxicity.predict.ray_queue import MOST_DEATHS, ShardQueue
from toxicity.predict.score_shards import Failure
from toxicity.predict.shards import Shard
from toxicity.predict.submission import Sample
from toxicity.predict.worker import computed_on_cpu

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
    given: dict[str, Shard] = field(default_factory=dict)  # what it has not finished, by address
    wants_more: bool = True
    open_rows: int = 0  # of the rows that were counted, those of a shard that it has not finished
    open_bytes: float = 0.0


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

        self._model, self._probe, self._size = arguments.model, probe, size
        self._paths = local_paths([arguments.model, *arguments.input])
        self._sources, self._here = digest_of_sources(), ray.get_runtime_context().get_node_id()
        # Processes of Ray have other working folders.
        arguments = copy.copy(arguments)
        arguments.model = next(iter(local_paths([arguments.model])), arguments.model)
        actor = ray.remote(ScoringActor).options(num_cpus=size.cores, num_gpus=size.gpus)
        self._ask_for = lambda: actor.remote(arguments, sample, max(1, size.cores), bool(size.gpus))
        self.job: dict[str, Any] = {}
        self._actors: set[_Actor] = set()
        self._queue = ShardQueue([], living_nodes)
        self._failed: dict[str, Failure] = {}
        self._begun = False
        self._loss = ""  # why the last actor was lost
        self._loop, self._changed = asyncio.new_event_loop(), asyncio.Event()
        self._watching = self._loop.create_task(self._watch())
        self._tasks: list[asyncio.Task] = []
        try:
            self._grow()
            logger.info(f"Asked Ray for workers: {self.count:,}, each with {size.told}.")
            self._run_until(lambda: self.job)
        except BaseException:
            self.close()
            raise

    @property
    def count(self) -> int:
        """How many actors were asked for."""
        return len(self._tasks)

    def score(self, shards: Sequence[Shard], outputs: Outputs, progress: Progress) -> dict[str, Failure]:
        """Score shards; returns those that failed, by address. `progress` counts what all actors score.

        Raises:
            RunFailure: if no actor is left, and Ray cannot place any for long. What was scored is kept.
        """
        self._outputs = dataclasses.replace(outputs, folder=outputs.folder.absolute())
        self._progress = progress
        self._queue = ShardQueue(shards, living_nodes)
        self._tell_all()
        self._run_until(lambda: not self._queue.left)
        return {shard.address: self._failed[shard.address] for shard in shards if shard.address in self._failed}

    def close(self) -> None:
        """Stop calling the actors; they end with the connection to the cluster."""
        tasks = {*asyncio.all_tasks(self._loop), *self._tasks, self._watching}
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))

    def _run_until(self, condition: Callable[[], object]) -> None:
        """Run the loop until a condition holds; raises what any task raises."""

        async def wait() -> None:
            while not condition():
                for task in (self._watching, *self._tasks):
                    if task.done():
                        task.result()
                if all(task.done() for task in self._tasks):
                    raise RunFailure(f"all workers of Ray died before they could score: {self._loss}{self._kept}")
                await self._changed.wait()

        self._loop.run_until_complete(wait())

    @property
    def _kept(self) -> str:
        return " What is scored is kept: the same command goes on with the rest." if self._begun else ""

    def _tell_all(self) -> None:
        """Wake up all that wait for a change."""
        self._changed.set()
        self._changed = asyncio.Event()

    def _grow(self) -> None:
        """Ask for as many actors as the cluster has room for, which may have become more."""
        for _ in range(room_for(self._size) - self.count):
            self._tasks.append(self._loop.create_task(self._keep_one_at_work()))
            self._tasks[-1].add_done_callback(lambda _: self._tell_all())

    async def _watch(self) -> None:
        placed = told = time.monotonic()
        try:
            while True:
                await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
                now = time.monotonic()
                if self._queue:
                    self._grow()
                if any(actor.node_id for actor in self._actors):
                    placed = told = now
                elif now - placed > PATIENCE_SECONDS:
                    raise RunFailure(
                        f"Ray found no place for a worker with {self._size.told} in {PATIENCE_SECONDS / 60:.0f} "
                        f"minutes: see `ray status`, or ask for less with --ray_num_cpus.{self._kept}"
                    )
                elif now - told > SECONDS_BETWEEN_LINES:
                    told = now
                    logger.info(f"Waiting for Ray to find a place for a worker with {self._size.told}.")
        finally:
            self._tell_all()

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
                await self._give_shards(actor)
            except (RequestError, RayError) as error:
                refusal = refusal_in(error)
                self._lose(actor, error, refusal)
                if refusal is not None:
                    return
            finally:
                self._actors.discard(actor)
                ray.kill(actor.handle)
            await asyncio.sleep(starts)

    async def _prepare(self, actor: _Actor) -> None:
        """Check that an actor can do this job, and load its model."""
        answer = uuid.uuid4().hex
        place = await actor.handle.place.remote(self._probe, answer, self._paths)
        actor.node, actor.node_id = place.node, place.node_id
        require_same_package(place, self._sources)
        await require_answer(self._probe.with_name(answer))
        job, told = await actor.handle.load.remote()
        _log(told)
        # As it was named here.
        job["model"] = self._model
        require_same_job(job, self.job or job)
        self.job = job
        self._tell_all()

    async def _give_shards(self, actor: _Actor) -> None:
        """Give an actor shards, the next ones when it has read those before, for as long as it lives."""
        while True:
            for shard in self._queue.given_up():
                self._give_up(shard)
            shards = self._queue.take(actor.given, self.count) if actor.wants_more else []
            if not shards and not actor.given:
                await self._changed.wait()
                continue
            self._begun = True
            actor.given |= {shard.address: shard for shard in shards}
            more = bool(shards) or not actor.wants_more
            self._note(actor, await actor.handle.exchange.remote(shards, self._outputs, more))

    def _note(self, actor: _Actor, report: Report) -> None:
        _log(report.told)
        self._progress.add(report.rows, report.input_bytes)
        actor.open_rows, actor.open_bytes = report.open_rows, report.open_bytes
        actor.wants_more = report.wants_more
        for address, failure in report.finished:
            del actor.given[address]
            self._queue.finish(address)
            if failure is not None:
                self._failed[address] = failure
        if not self._queue.left:
            self._tell_all()

    def _lose(self, actor: _Actor, error: Exception, refusal: str | None) -> None:
        """Have others do what an actor did not finish.

        Raises:
            RequestError: if the actor must not do this job, and none has begun with it.
        """
        if refusal is not None:
            told = refusal if actor.node_id in ("", self._here) else f"node {actor.node}: {refusal}"
            if not self._begun:
                raise RequestError(told) from error
            logger.error(f"Not used for this job: {told}")
        elif actor.node:
            logger.warning(f"Lost a worker on node {actor.node}, and asked for another: {reason_of_loss(error)}")
        self._loss = reason_of_loss(error)
        if actor.given:
            self._progress.add(-actor.open_rows, -actor.open_bytes)
        self._queue.put_back(actor.given.values(), actor.node_id)
        self._tell_all()

    def _give_up(self, shard: Shard) -> None:
        reason = f"{MOST_DEATHS} workers died when they scored it ({self._loss})"
        logger.error(f"Failed: {shard.address}: {reason}")
        self._failed[shard.address] = Failure(reason, refused=False)
        self._outputs.forget(shard)
        self._progress.add(0, shard.bytes or 0)
        self._tell_all()


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


def _log(lines: Sequence[tuple[int, str]]) -> None:
    """Log what actors logged; what several of them say alike, once."""
    for level, line in lines:
        log_once(level, line)
