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
    assert [len(queue.take(actors)) for _ in counts] == counts


def test_many_small_shards_take_few_calls():
    queue = queue_of([1_000] * 1_000)
    calls = 0
    while queue:
        calls += 1
        assert queue.take(2)
    assert calls < 80


def test_the_largest_come_first():
    queue = queue_of([5, 9, None, 7])
    assert names([shard for _ in range(4) for shard in queue.take(2)]) == ["1", "3", "0", "2"]


def test_what_a_dead_actor_had_is_done_alone():
    queue = queue_of([0] * (SHARDS_AT_A_TIME + 10))
    taken = queue.take(1)
    assert queue.take_alone() == []
    queue.put_back(taken[:2], "a")
    assert queue, "there is work for others"
    assert queue.take(1) == [], "nothing else before those"
    assert queue.take_alone() == taken[:1]
    assert queue.take(1) == []
    assert queue.take_alone() == taken[1:2]
    assert len(queue.take(1)) == 10


def test_a_shard_that_ends_every_actor_is_given_up_and_its_neighbour_is_not():
    queue = queue_of([2, 1])
    deadly, other = *queue.take(2), *queue.take(2)
    assert queue.put_back([deadly], "a") == queue.put_back([other], "a") == []
    assert queue.take_alone() == [deadly]
    assert queue.take_alone() == [other]
    queue.finish([other])
    for death in range(2, MOST_DEATHS + 1):
        hopeless = queue.put_back([deadly], "b")
        assert hopeless == ([deadly] if death == MOST_DEATHS else [])
        assert queue.take_alone() == ([] if hopeless else [deadly])
    assert (queue.left, bool(queue)) == (0, False)


def test_a_lost_node_is_not_held_against_a_shard():
    queue = queue_of([1], up=["a"])
    shards = queue.take(1)
    for node in ("gone", "gone", "gone", "a", "a"):
        assert queue.put_back(shards, node) == []
        assert queue.take_alone() == shards
    assert queue.put_back(shards, "a") == shards
