"""Score with actors of a Ray cluster: one on each GPU, or on a few cores. Ray places them; lost ones are replaced."""

from __future__ import annotations

import argparse
import asyncio
import copy
import dataclasses
import logging
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toxicity.core import distributed
from toxicity.core.console import log_once
from toxicity.core.errors import RequestError, RunFailure, one_line
from toxicity.predict import ray_cluster
from toxicity.predict.ledger import difference, writing_to
from toxicity.predict.outputs import IN_PROGRESS, Outputs
from toxicity.predict.progress import Progress
from toxicity.predict.ray_actor import SECONDS_TO_APPEAR, Report, ScoringActor, digest_of_sources
from toxicity.predict.ray_cluster import Size
from toxicity.predict.score_shards import Failure
from toxicity.predict.shards import Shard
from toxicity.predict.submission import Sample
from toxicity.predict.worker import computed_on_cpu

# Small shards are handed out in groups, of which one takes less than the time that its actor would wait for the next.
SHARDS_AT_A_TIME, BYTES_AT_A_TIME = 32, 2**20
# A shard that is at work whenever its worker dies is given up then.
MOST_DEATHS = 3
# As is a place for an actor, if it dies so often in a row before it has loaded the model.
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
        self._paths = [*_local([arguments.model, *arguments.input])]
        self._sources, self._here = digest_of_sources(), ray.get_runtime_context().get_node_id()
        arguments = copy.copy(arguments)
        # Processes of Ray have other working folders.
        arguments.model = next(_local([arguments.model]), arguments.model)
        actor = ray.remote(ScoringActor).options(num_cpus=size.cores, num_gpus=size.gpus)
        self._ask_for = lambda: actor.remote(arguments, sample, max(1, size.cores), bool(size.gpus))
        self.job: dict[str, Any] = {}
        self._actors: set[_Actor] = set()
        self._queue: deque[Shard] = deque()
        # What was at work when an actor died is done alone: then it is known what kills. The nodes where that happened.
        self._suspects: deque[Shard] = deque()
        self._deaths: dict[str, list[str]] = {}
        self._failed: dict[str, Failure] = {}
        self._left, self._bytes_left, self._begun = 0, 0, False
        self._loss = ""  # why the last actor was lost
        self._loop, self._changed = asyncio.new_event_loop(), asyncio.Event()
        self._tasks: list[asyncio.Task] = []
        self._watching = self._loop.create_task(self._watch())
        try:
            self._grow()
            logger.info(f"Asked Ray for {self.count:,} workers, each with {size.told}.")
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
        # As for processes, so that all of them end at about the same time.
        self._queue.extend(sorted(shards, key=lambda shard: -(shard.bytes or 0)))
        self._left, self._bytes_left = len(shards), sum(shard.bytes or 0 for shard in shards)
        self._tell_all()
        self._run_until(lambda: not self._left)
        return {shard.address: self._failed[shard.address] for shard in shards if shard.address in self._failed}

    def close(self) -> None:
        """Stop calling the actors; they end with the connection to the cluster."""
        for task in (tasks := asyncio.all_tasks(self._loop)):
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
                    raise RunFailure(f"no worker of Ray is left, as they died: {self._loss}{self._kept}")
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
        for _ in range(ray_cluster.room_for(self._size) - self.count):
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
                elif now - told > 30:
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
                self._lose(actor, error)
                if refusal := _refusal(error):
                    reason = refusal if actor.node_id in ("", self._here) else f"node {actor.node}: {refusal}"
                    if not self._begun:
                        raise RequestError(reason) from error
                    logger.error(f"Not used for this job: {reason}")
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
        if place.sources != self._sources:
            raise RequestError(
                "there is another version of this package: install the same everywhere, or take it away there, as Ray "
                "brings this one."
            )
        if place.unseen:
            raise RequestError(
                f"{place.unseen[0]} is not there: put it in a folder that all nodes share, or an object store."
            )
        await self._require_answer(self._probe.with_name(answer))
        job, told = await actor.handle.load.remote()
        _log(told)
        job["model"] = self._model
        if self.job and (found := difference(job, self.job)):
            raise RequestError(
                f"it would not give the same scores as the other workers: it has {found}. Use one kind of device, "
                "the same packages and the same model everywhere, and name the precision with --mixed_precision and "
                "what computes it with --runtime."
            )
        self.job = job
        self._tell_all()

    async def _require_answer(self, answer: Path) -> None:
        until = time.monotonic() + SECONDS_TO_APPEAR
        while not answer.exists():
            if time.monotonic() > until:
                raise RequestError(
                    f"what workers write to {answer.parent.parent.parent} is not seen here: name an --output that all "
                    "nodes share, or an address such as s3://BUCKET/FOLDER."
                )
            await asyncio.sleep(0.1)
        answer.unlink()

    async def _give_shards(self, actor: _Actor) -> None:
        """Give an actor shards, the next ones when it has read those before, for as long as it lives."""
        while True:
            shards = self._next_for(actor)
            if not shards and not actor.given:
                await self._changed.wait()
                continue
            self._begun = True
            actor.given |= {shard.address: shard for shard in shards}
            self._note(actor, await actor.handle.exchange.remote(shards, self._outputs))

    def _next_for(self, actor: _Actor) -> list[Shard]:
        """The largest one that is left, or several small ones that together are a small part of all that is left."""
        if not actor.wants_more or any(address in self._deaths for address in actor.given):
            return []
        while self._suspects and not actor.given:
            shard = self._suspects.popleft()
            if self._deaths_of(shard) < MOST_DEATHS:
                return [shard]
            self._give_up(shard)
        room = min(BYTES_AT_A_TIME, self._bytes_left / (4 * self.count))
        shards, size = [], 0
        while self._queue and len(shards) < SHARDS_AT_A_TIME:
            size += BYTES_AT_A_TIME if self._queue[0].bytes is None else self._queue[0].bytes
            if shards and size > room:
                break
            shards.append(self._queue.popleft())
        self._bytes_left -= sum(shard.bytes or 0 for shard in shards)
        return shards

    def _note(self, actor: _Actor, report: Report) -> None:
        _log(report.told)
        self._progress.add(report.rows, report.input_bytes)
        actor.open_rows, actor.open_bytes = report.open_rows, report.open_bytes
        actor.wants_more = report.wants_more
        for address, failure in report.finished:
            del actor.given[address]
            self._deaths.pop(address, None)
            self._end(address, failure)

    def _end(self, address: str, failure: Failure | None) -> None:
        if failure is not None:
            self._failed[address] = failure
        self._left -= 1
        if not self._left:
            self._tell_all()

    def _lose(self, actor: _Actor, error: Exception) -> None:
        """Have what an actor did not finish done by others."""
        self._loss = _reason_of_loss(error)
        if actor.node and not isinstance(error, RequestError):
            logger.warning(f"Lost a worker on node {actor.node}, and asked for another: {self._loss}")
        if actor.given:
            self._progress.add(-actor.open_rows, -actor.open_bytes)
        for shard in actor.given.values():
            self._deaths.setdefault(shard.address, []).append(actor.node_id)
            self._suspects.append(shard)
        self._tell_all()

    def _deaths_of(self, shard: Shard) -> int:
        """How many actors died when they had this shard; not those that went with their node."""
        up = ray_cluster.living_nodes()
        return sum(node in up for node in self._deaths[shard.address])

    def _give_up(self, shard: Shard) -> None:
        reason = f"{MOST_DEATHS} workers died when they scored it ({self._loss})"
        logger.error(f"Failed: {shard.address}: {reason}")
        self._outputs.forget(shard)
        self._progress.add(0, shard.bytes or 0)
        self._end(shard.address, Failure(reason, refused=False))


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
    with ray_cluster.connected(arguments.ray_address), _probe_in(arguments.output.absolute()) as probe:
        size = ray_cluster.size_of_actors(arguments.ray_num_cpus, computed_on_cpu(arguments))
        with closing(RayActors(arguments, sample, size, probe)) as actors:
            yield actors


@contextmanager
def _probe_in(output: Path) -> Iterator[Path]:
    """A new file in the output folder, in a folder of its own, so that no cache of its content is older than it."""
    folder = output / IN_PROGRESS / f"probe-{uuid.uuid4().hex}"
    with writing_to(output):
        folder.mkdir(parents=True)
        (folder / "driver").write_text("")
    try:
        yield folder / "driver"
    finally:
        with suppress(OSError):
            (folder / "driver").unlink()
        if isinstance(output, Path):  # on an object store there are no folders, and removing one would take its files
            for left in (folder, folder.parent, output):
                with suppress(OSError):
                    left.rmdir()


def _local(names: Sequence[str]) -> Iterator[str]:
    """The absolute paths of those names that are files or folders of this machine."""
    for name in names:
        if Path(name).exists():
            yield str(Path(name).absolute())


def _log(lines: Sequence[tuple[int, str]]) -> None:
    """Log what actors logged; what several of them say alike, once."""
    for level, line in lines:
        log_once(level, line)


def _refusal(error: Exception) -> str | None:
    """Why an actor must not do this job; None for an error that another actor may not have."""
    cause = getattr(error, "cause", error)  # of Ray's error for what the actor's own code raised, that one
    if isinstance(cause, RequestError):
        return str(cause)
    if isinstance(cause, ImportError) or "creation task" in str(error):
        lacks = str(cause).strip().splitlines()[-1]
        return (
            f"cannot import what this package needs ({lacks}): install there what is installed here, in the same "
            "versions."
        )
    return None


def _reason_of_loss(error: Exception) -> str:
    """What ended an actor, without the ids that Ray lists in front of it."""
    if cause := getattr(error, "cause", None):
        return f"{type(cause).__name__}: {one_line(cause)}"
    told = " ".join(str(error).split())
    return told[max(0, told.find("The actor is dead because")) :][:200]
