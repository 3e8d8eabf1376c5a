"""Which shards an actor of Ray gets next, and which are given up as they end every actor that scores them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence

from toxicity.predict.shards import Shard

# Small shards are handed out in groups: scoring one takes less time than an actor would wait for the next.
SHARDS_AT_A_TIME, BYTES_AT_A_TIME = 32, 2**20
# A shard that is at work whenever its actor dies is given up then.
MOST_DEATHS = 3


class ShardQueue:
    """The shards of a job that no actor has: the largest first, as then all actors end at about the same time.

    Args:
        shards: all that are to be scored.
        living_nodes: returns the ids of the nodes that are up.

    Attributes:
        left: how many shards are neither finished nor given up.
    """

    def __init__(self, shards: Sequence[Shard], living_nodes: Callable[[], Collection[str]]) -> None:
        self._shards = deque(sorted(shards, key=lambda shard: -(shard.bytes or 0)))
        self._bytes = sum(shard.bytes or 0 for shard in shards)
        self._living_nodes = living_nodes
        # What an actor had that died is done alone from then on, so that it is known which one kills. Of each the nodes
        # where that happened.
        self._suspects: deque[Shard] = deque()
        self._deaths: dict[str, list[str]] = {}
        self.left = len(shards)

    def __bool__(self) -> bool:
        """Whether there is any that no actor has."""
        return bool(self._shards or self._suspects)

    def take_alone(self) -> list[Shard]:
        """A shard that is to be scored with nothing beside it, if there is one."""
        return [self._suspects.popleft()] if self._suspects else []

    def take(self, actors: int) -> list[Shard]:
        """The next shards: a large one, or small ones that are a small part of all that is left for so many actors.

        None as long as there are some to be scored alone.
        """
        room = min(BYTES_AT_A_TIME, self._bytes / (4 * actors))
        taken, size = [], 0
        while self._shards and not self._suspects and len(taken) < SHARDS_AT_A_TIME:
            # One of unknown size may be large.
            size += BYTES_AT_A_TIME if self._shards[0].bytes is None else self._shards[0].bytes
            if taken and size > room:
                break
            taken.append(self._shards.popleft())
        self._bytes -= sum(shard.bytes or 0 for shard in taken)
        return taken

    def finish(self, shards: Sequence[Shard]) -> None:
        """Note that shards are finished."""
        self.left -= len(shards)

    def put_back(self, shards: Sequence[Shard], node: str) -> list[Shard]:
        """Take back what an actor had not finished that died on a node; returns what is given up, as too many did.

        Not counted are deaths on nodes that were lost.
        """
        hopeless = []
        for shard in shards:
            nodes = self._deaths.setdefault(shard.address, [])
            nodes.append(node)
            many = len(nodes) >= MOST_DEATHS and sum(map(self._living_nodes().__contains__, nodes)) >= MOST_DEATHS
            (hopeless if many else self._suspects).append(shard)
        self.finish(hopeless)
        return hopeless
