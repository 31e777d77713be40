"""How actors are, from snapshots that a clock of the test's own dates."""

from dataclasses import replace

from cluster.board import ActorHealth
from cluster.health import WINDOW_S, HealthWatch
from cluster.session import Snapshot
from tests.cluster.snapshots import COLLECTOR, SHARD, SNAPSHOT, TRAINER


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def snapshot(
    env_steps: int, *, wait_s: float = 0.0, samples: int = 0, incarnation: int = 5
) -> Snapshot:
    collector = replace(
        COLLECTOR, env_steps=env_steps, wait_s=wait_s, incarnation=incarnation, policy_version=3
    )
    return replace(
        SNAPSHOT,
        collectors=(replace(collector, runner_id=1), replace(collector, runner_id=0)),
        shards=(SHARD,),
        trainer=replace(TRAINER, samples=samples, wait_s=wait_s, policy_version=4),
    )


def look(watch: HealthWatch, seen: Snapshot) -> dict[str, ActorHealth]:
    return {health.name: health for health in watch.take(seen)}


def test_every_actor_is_listed_in_the_order_of_the_data() -> None:
    assert list(look(HealthWatch(), snapshot(0))) == [
        "env_runner 0",
        "env_runner 1",
        "shard 0",
        "learner",
    ]


def test_the_first_look_knows_no_rate() -> None:
    health = look(HealthWatch(), snapshot(0))["env_runner 0"]
    assert health.per_s is None
    assert health.wait_share is None
    assert health.starts == 1
    assert health.policy_version == 3


def test_rates_and_shares_are_of_the_last_seconds() -> None:
    watch = HealthWatch(clock := Clock())
    look(watch, snapshot(0))
    for second in range(1, 31):  # 10 a second for 15 s, then 30 a second and half the time waiting
        clock.now += 1.0
        late = max(0, second - 15)
        found = look(watch, snapshot(10 * second + 20 * late, wait_s=late / 2, samples=7 * second))
    assert found["env_runner 0"].per_s == 30.0
    assert found["env_runner 0"].wait_share == 0.5
    assert found["learner"].per_s == 7.0
    assert found["learner"].policy_version == 4
    assert 2 * WINDOW_S <= 30.0 - WINDOW_S / 2, "the window must have moved on"


def test_who_counts_nothing_stands_still() -> None:
    watch = HealthWatch(clock := Clock())
    look(watch, snapshot(10, samples=1))
    clock.now += 7.0
    found = look(watch, snapshot(10, samples=2))
    assert found["env_runner 1"].still_s == 7.0
    assert found["env_runner 1"].per_s == 0.0
    assert found["learner"].still_s == 0.0


def test_a_new_start_is_counted_and_gives_no_negative_rate() -> None:
    watch = HealthWatch(clock := Clock())
    look(watch, snapshot(1_000, incarnation=5))
    clock.now += 1.0
    found = look(watch, snapshot(20, incarnation=6))["env_runner 0"]
    assert found.starts == 2
    assert found.per_s is None
    clock.now += 1.0
    assert look(watch, snapshot(60, incarnation=6))["env_runner 0"].per_s == 40.0


def test_who_has_left_is_not_listed_and_may_come_back() -> None:
    watch = HealthWatch(clock := Clock())
    look(watch, snapshot(10))
    clock.now += 1.0
    assert "env_runner 0" not in look(watch, replace(snapshot(10), collectors=()))
    clock.now += 1.0
    assert look(watch, snapshot(0, incarnation=7))["env_runner 0"].starts == 2
