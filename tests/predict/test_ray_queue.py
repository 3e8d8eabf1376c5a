"""Which shards actors get, and which are given up; nothing here needs Ray."""

import pytest

from toxicity.predict.ray_queue import BYTES_AT_A_TIME, MOST_DEATHS, SHARDS_AT_A_TIME, ShardQueue
from toxicity.predict.shards import Shard


def shards_of(sizes):
    return [Shard(f"/in/{number}.csv", str(number), size, "1") for number, size in enumerate(sizes)]


def queue_of(sizes, up=("a", "b")):
    return ShardQueue(shards_of(sizes), lambda: set(up))


def names(shards):
    return [shard.name for shard in shards]


@pytest.mark.parametrize(
    ("sizes", "actors", "counts"),
    [
        ([5, 9, 7], 2, [1, 1, 1, 0]),
        ([10 * BYTES_AT_A_TIME] * 3, 1, [1, 1, 1, 0]),
        ([None] * 3, 1, [1, 1, 1, 0]),
        # A quarter of what is left for each of two, and single ones at last.
        ([100] * 16, 2, [2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0]),
        ([0] * 40, 1, [SHARDS_AT_A_TIME, 8, 0]),
    ],
)
def test_large_shards_come_alone_and_small_ones_in_groups(sizes, actors, counts):
    queue = queue_of(sizes)
    assert [len(queue.take([], actors)) for _ in counts] == counts


def test_many_small_shards_take_few_calls():
    queue = queue_of([1_000] * 1_000)
    calls = 0
    while queue:
        calls += 1
        assert queue.take([], 2)
    assert calls < 80


def test_the_largest_come_first():
    queue = queue_of([5, 9, None, 7])
    assert names([shard for _ in range(4) for shard in queue.take([], 2)]) == ["1", "3", "0", "2"]


def test_what_a_dead_actor_had_is_done_alone():
    queue = queue_of([0] * 10)
    taken = queue.take([], 1)
    assert len(taken) == 10
    queue.put_back(taken[:2], "a")
    assert queue, "there is work for others"
    assert queue.take(["another"], 1) == [], "not before the actor has finished what it has"
    assert queue.take([], 1) == taken[:1]
    assert queue.take([taken[0].address], 1) == [], "nothing beside it"
    queue.finish(taken[0].address)
    assert queue.take([], 1) == taken[1:2]


def test_a_shard_that_ends_every_actor_is_given_up_and_its_neighbour_is_not():
    queue = queue_of([2, 1])
    both = [*queue.take([], 2), *queue.take(["0"], 2)]
    queue.put_back(both, "a")
    deadly, other = both
    for _ in range(MOST_DEATHS - 1):
        assert queue.given_up() == []
        shards = [queue.take([], 2)[0] for _ in range(2)] if other else queue.take([], 2)
        assert deadly in shards
        if other in shards:
            queue.finish(other.address)
            other = None
        queue.put_back([deadly], "b")
    assert queue.given_up() == [deadly]
    assert (queue.left, bool(queue)) == (0, False)


def test_a_lost_node_is_not_held_against_a_shard():
    queue = queue_of([1], up=["a"])
    for node in ("gone", "gone", "gone", "a", "a"):
        [shard] = queue.take([], 1)
        queue.put_back([shard], node)
        assert queue.given_up() == []
    queue.put_back(queue.take([], 1), "a")
    assert queue.given_up() == [shard]
