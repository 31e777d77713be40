"""The replay shards on a fake Ray: started again by it, counted, and frozen."""

from dataclasses import replace

import pytest

from common.errors import RunFailedError
from tests.cluster.fake_ray import PENDING, SHARD, FakeCluster, Ray


def test_every_new_life_is_counted_once(cluster: FakeCluster) -> None:
    cluster.shards.lives = [{"stats": replace(SHARD, epoch=epoch)} for epoch in ("a", "b")]
    session = cluster.start("replay.num_shards=2")
    first, _ = cluster.shards.made
    assert session.poll().restarts["shard"] == 0
    first.answers["stats"] = replace(SHARD, epoch="c", inserted=7)
    snapshot = session.poll()
    assert snapshot.restarts["shard"] == 1
    assert [stats.inserted for stats in snapshot.shards] == [7, SHARD.inserted]
    assert session.poll().restarts["shard"] == 1


def test_shards_that_die_too_often_end_the_run(cluster: FakeCluster) -> None:
    session = cluster.start("supervision.max_shard_restarts=1")
    (shard,) = cluster.shards.made
    shard.answers["stats"] = replace(SHARD, epoch="b")
    session.poll()
    shard.answers["stats"] = replace(SHARD, epoch="c")
    with pytest.raises(RunFailedError, match=r"^replay shards died 2 times, and .* = 1$"):
        session.poll()


def test_a_frozen_shard_is_ended_once_for_ray_to_start_again(
    cluster: FakeCluster, fake_ray: Ray
) -> None:
    session = cluster.start("supervision.silence_s=30")
    session.poll()
    (shard,) = cluster.shards.made
    shard.answers["stats"] = PENDING
    session.poll()
    fake_ray.now += 29
    session.poll()
    assert "restart" not in shard.calls
    fake_ray.now += 2
    session.poll()
    fake_ray.now += 60
    session.poll()
    assert shard.calls.count("restart") == 1
