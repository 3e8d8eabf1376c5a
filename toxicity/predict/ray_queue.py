"""Which shards an actor of Ray gets next, and which are given up as they end every actor that scores them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence

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

    def take(self, given: Collection[str], actors: int) -> list[Shard]:
        """The next shards for an actor: a large one, or small ones that are a small part of all that is left.

        Args:
            given: addresses of the shards that it has not finished.
            actors: how many actors there are.
        """
        if any(address in self._deaths for address in given):
            return []
        if self._suspects and not given:
            return [self._suspects.popleft()]
        room = min(BYTES_AT_A_TIME, self._bytes / (4 * actors))
        taken, size = [], 0
        while self._shards and len(taken) < SHARDS_AT_A_TIME:
            # One of unknown size may be large.
            size += BYTES_AT_A_TIME if self._shards[0].bytes is None else self._shards[0].bytes
            if taken and size > room:
                break
            taken.append(self._shards.popleft())
        self._bytes -= sum(shard.bytes or 0 for shard in taken)
        return taken

    def finish(self, address: str) -> None:
        """Note that an actor finished a shard."""
        self._deaths.pop(address, None)
        self.left -= 1

    def put_back(self, shards: Iterable[Shard], node: str) -> None:
        """Take back what an actor did not finish that died on a node, to be given to others."""
        for shard in shards:
            self._deaths.setdefault(shard.address, []).append(node)
            self._suspects.append(shard)

    def given_up(self) -> list[Shard]:
        """The shards that are given up now, as too many actors died with them; not counted are those of lost nodes."""
        if not any(len(nodes) >= MOST_DEATHS for nodes in self._deaths.values()):
            return []
        up = self._living_nodes()
        hopeless = [
            shard for shard in self._suspects if sum(node in up for node in self._deaths[shard.address]) >= MOST_DEATHS
        ]
        for shard in hopeless:
            self._suspects.remove(shard)
            self.finish(shard.address)
        return hopeless
