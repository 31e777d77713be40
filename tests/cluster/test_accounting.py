"""collected = received + unseen + under way + lost, whatever happened."""

from dataclasses import replace

from cluster.accounting import Account, account
from common.replay.shard import ShardStats
from common.trajectory import Life
from learners.counting import LifeCount
from tests.cluster.snapshots import SHARD

A, B = Life(0, 0), Life(1, 0)


def shard(unseen: dict[Life, int]) -> ShardStats:
    return replace(SHARD, unseen=unseen)


def test_what_goes_on_is_under_way_and_what_has_ended_is_lost() -> None:
    found = account(
        collected={A: 100, B: 100},
        running=[A],
        received={A: LifeCount(60, 10), B: LifeCount(60, 10)},
        shards=[shard({A: 10}), shard({B: 10})],
    )
    assert found == Account(collected=200, received=120, unseen=20, under_way=20, lost=10 + 30)


def test_a_report_that_is_older_than_what_arrived_takes_nothing_away() -> None:
    found = account(
        collected={A: 50}, running=[A], received={A: LifeCount(60, 0)}, shards=[shard({A: 8})]
    )
    assert found == Account(collected=68, received=60, unseen=8, under_way=0, lost=0)


def test_a_life_that_never_reported_is_known_by_what_arrived() -> None:
    found = account(
        collected={}, running=[], received={A: LifeCount(5, 0)}, shards=[shard({A: 1, B: 2})]
    )
    assert found == Account(collected=8, received=5, unseen=3, under_way=0, lost=0)


def test_a_run_that_has_not_begun_has_nothing() -> None:
    found = account(collected={}, running=[A], received={}, shards=[])
    assert found == Account(collected=0, received=0, unseen=0, under_way=0, lost=0)
