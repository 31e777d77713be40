"""The env runners on a fake Ray: scaled, paused, dead and frozen."""

from dataclasses import replace

import pytest
from ray.exceptions import ActorDiedError, RayTaskError

from cluster.on_ray import env_runners as ray_env_runners
from cluster.on_ray import learner as ray_learner
from cluster.on_ray import resources as ray_resources
from cluster.on_ray import session as ray_session
from common.errors import ConfigError, RunFailedError
from tests.cluster.fake_ray import (
    COLLECTOR,
    DIED,
    PENDING,
    TRAINER,
    Actor,
    FakeCluster,
    Late,
    Ray,
    stopped,
    task_error,
)


def test_env_runners_are_shared_out_among_the_shards(cluster: FakeCluster) -> None:
    cluster.start("replay.num_shards=2")
    assert [actor.arguments["shard"] for actor in cluster.runners.made] == cluster.shards.made


def test_a_dead_env_runner_starts_again_as_its_next_incarnation(cluster: FakeCluster) -> None:
    session = cluster.start()
    first, other = cluster.runners.made
    first.die()
    assert session.poll().restarts["env_runner"] == 1
    assert (first.killed, other.killed) == (True, False)
    again = cluster.runners.made[2]
    assert again.arguments == first.arguments | {"incarnation": 1}
    assert session.poll().restarts["env_runner"] == 1
    assert len(cluster.runners.made) == 3


def test_an_env_runner_that_fails_too_often_ends_the_run(cluster: FakeCluster) -> None:
    session = cluster.start()
    failing = {"run": task_error(ValueError("bad")), "stats": DIED}
    cluster.runners.lives = [failing] * 9
    cluster.runners.made[0].die()
    session.poll()
    session.poll()
    with pytest.raises(RunFailedError) as caught:
        session.poll()
    assert str(caught.value) == "env runners died 3 times; the last time: ValueError: bad"


def test_episodes_are_told_once(cluster: FakeCluster) -> None:
    session = cluster.start()
    assert [len(stats.episodes) for stats in session.poll().collectors] == [1, 1]
    cluster.runners.made[0].answers["stats"] = PENDING
    cluster.runners.made[1].answers["stats"] = replace(COLLECTOR, env_steps=99)
    slow, quick = session.poll().collectors
    assert slow == replace(COLLECTOR, episodes=())
    assert quick == replace(COLLECTOR, env_steps=99)


def running(cluster: FakeCluster) -> list[tuple[int, int]]:
    """Return number and incarnation of those that are not killed and were not told to stop."""
    return [
        (actor.arguments["runner_id"], actor.arguments["incarnation"])
        for actor in cluster.runners.made
        if not actor.killed and "stop" not in actor.calls
    ]


def test_scaling_up_starts_the_missing_and_leaves_the_others(cluster: FakeCluster) -> None:
    session = cluster.start()
    session.scale(4)
    snapshot = session.poll()
    assert running(cluster) == [(0, 0), (1, 0), (2, 0), (3, 0)]
    assert snapshot.env_runners_wanted == len(snapshot.collectors) == 4
    session.scale(4)
    session.poll()
    assert len(cluster.runners.made) == 4


def test_scaling_down_lets_the_last_ones_hand_over_before_they_are_ended(
    cluster: FakeCluster,
) -> None:
    session = cluster.start()
    session.poll()
    first, second = cluster.runners.made
    session.scale(1)
    snapshot = session.poll()
    assert snapshot.env_runners_wanted == 1
    assert (second.calls.count("stop"), second.killed) == (1, False)
    second.answers["run"] = replace(COLLECTOR, runner_id=1, env_steps=77)
    last = session.poll()
    assert second.killed
    assert [stats.env_steps for stats in last.collectors] == [50, 77]
    assert len(session.poll().collectors) == 1
    assert (first.killed, "stop" in first.calls) == (False, False)
    assert sum(last.restarts.values()) == 0


@pytest.mark.parametrize("dies", [True, False])
def test_one_that_does_not_leave_is_ended(dies: bool, cluster: FakeCluster, fake_ray: Ray) -> None:
    session = cluster.start()
    session.poll()
    session.scale(1)
    session.poll()
    leaving = cluster.runners.made[1]
    if dies:
        leaving.die()
    else:
        fake_ray.now += ray_env_runners.LEAVE_TIMEOUT_S + 1
    snapshot = session.poll()
    assert leaving.killed
    assert sum(snapshot.restarts.values()) == 0
    assert len(cluster.runners.made) == 2


def test_a_number_is_used_again_with_a_higher_incarnation(cluster: FakeCluster) -> None:
    session = cluster.start()
    session.poll()
    for number in (1, 2):
        session.scale(number)
        session.poll()
    assert running(cluster) == [(0, 0), (1, 1)]
    leaving = cluster.runners.made[1]
    leaving.answers["run"] = replace(COLLECTOR, runner_id=1)
    session.poll()
    assert leaving.killed
    assert running(cluster) == [(0, 0), (1, 1)]


def test_one_that_never_answered_is_ended_at_once(cluster: FakeCluster) -> None:
    cluster.runners.lives = [{}, {"stats": PENDING}]
    session = cluster.start()
    session.poll()
    session.scale(1)
    session.poll()
    assert cluster.runners.made[1].killed


def test_a_number_below_the_number_of_shards_is_refused(cluster: FakeCluster) -> None:
    session = cluster.start("replay.num_shards=2")
    with pytest.raises(ConfigError, match=r"1 env runners are too few: replay.num_shards = 2"):
        session.scale(1)
    assert session.poll().env_runners_wanted == 2


def test_pausing_reaches_all_and_those_that_start_later(cluster: FakeCluster) -> None:
    session = cluster.start()
    session.pause(True)
    session.pause(True)
    session.scale(3)
    assert session.poll().paused
    assert [actor.calls.count("pause") for actor in cluster.runners.made] == [1, 1, 0]
    assert [actor.arguments["paused"] for actor in cluster.runners.made] == [False, False, True]
    session.pause(False)
    assert not session.poll().paused
    assert [actor.calls.count("pause") for actor in cluster.runners.made] == [2, 2, 1]


def test_those_that_wait_for_cpus_are_told_of_and_not_waited_for(
    cluster: FakeCluster, fake_ray: Ray, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed: list[Actor] = []
    monkeypatch.setattr(
        ray_env_runners, "node_of", lambda actor: "node" if actor in placed else None
    )
    monkeypatch.setattr(
        ray_session, "missing", lambda num, what, num_cpus: f"{num} {what} {num_cpus}"
    )
    cluster.runners.lives = [{}, {"stats": PENDING}]
    session = cluster.start()
    assert session.poll().waiting_for is None  # it may just be starting
    fake_ray.now += ray_env_runners.PLACED_WITHIN_S + 1
    fake_ray.patience = 0.0
    snapshot = session.poll()
    assert snapshot.waiting_for == "1 env runner 0.7"
    assert len(snapshot.collectors) == 1
    assert fake_ray.patience <= ray_session.POLL_S
    placed.append(cluster.runners.made[1])
    assert session.poll().waiting_for is None


def test_one_that_falls_silent_is_frozen_and_starts_again(
    cluster: FakeCluster, fake_ray: Ray
) -> None:
    session = cluster.start("supervision.silence_s=30")
    session.poll()
    frozen, other = cluster.runners.made
    frozen.answers["stats"] = PENDING
    session.poll()
    fake_ray.now += 29
    assert session.poll().restarts["env_runner"] == 0
    fake_ray.now += 2
    assert session.poll().restarts["env_runner"] == 1
    assert (frozen.killed, other.killed) == (True, False)
    assert running(cluster) == [(1, 0), (0, 1)]
    assert session.poll().restarts["env_runner"] == 1


def test_an_answer_that_comes_late_is_taken_with_its_episodes(cluster: FakeCluster) -> None:
    session = cluster.start()
    session.poll()
    slow = cluster.runners.made[0]
    answer = Late()
    slow.answers["stats"] = answer
    asked = slow.calls.count("stats")
    for _ in range(2):
        assert session.poll().collectors[0].episodes == ()
    assert slow.calls.count("stats") == asked + 1
    answer.comes(replace(COLLECTOR, env_steps=123))
    late = session.poll().collectors[0]
    assert (late.env_steps, len(late.episodes)) == (123, 1)
    slow.answers["stats"] = PENDING
    assert session.poll().collectors[0].episodes == ()


def failed_to_build() -> ActorDiedError:
    cause = RayTaskError(
        "__init__", "Traceback\n  line\nValueError: bad", ValueError("bad"), "p", 1, "10.0.0.1"
    )
    return ActorDiedError(cause)


def test_one_that_cannot_be_built_is_tried_twice(cluster: FakeCluster) -> None:
    failing = dict.fromkeys(("run", "stats"), failed_to_build())
    cluster.runners.lives = [failing] * 9
    session = cluster.start("actors.num_env_runners=1")
    session.poll()
    with pytest.raises(RunFailedError) as caught:
        session.poll()
    assert str(caught.value) == "env runners cannot start: ValueError: bad"
    assert len(cluster.runners.made) == 2


def test_failures_to_build_that_are_not_in_a_row_do_not_end_the_run(cluster: FakeCluster) -> None:
    failing = dict.fromkeys(("run", "stats"), failed_to_build())
    cluster.runners.lives = [failing]
    session = cluster.start("actors.num_env_runners=1", "actors.max_restarts=9")
    assert session.poll().restarts["env_runner"] == 1
    session.poll()
    cluster.runners.lives = [failing]
    cluster.runners.made[-1].die()
    session.poll()
    assert session.poll().restarts["env_runner"] == 3


def test_env_runners_make_room_for_a_learner_that_finds_none(
    cluster: FakeCluster, fake_ray: Ray, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = cluster.start("actors.num_env_runners=3", "actors.num_cpus_per_runner=0.4")
    session.poll()
    first, second, third = cluster.runners.made
    cluster.learners.lives = [{"stats": PENDING}]
    cluster.learners.made[0].die()
    session.poll()
    monkeypatch.setattr(ray_learner, "node_of", lambda actor: None)
    monkeypatch.setattr(ray_session, "missing", lambda num, what, *needs: f"{num} {what}")
    fake_ray.now += ray_resources.PLACED_WITHIN_S + 1
    session.poll()
    assert session.poll().waiting_for == "1 learner rank"
    assert stopped(first, second, third) == [False, False, True]  # one after another
    third.answers["run"] = replace(COLLECTOR, runner_id=2)
    for _ in range(3):
        session.poll()
    assert stopped(first, second, third) == [False, True, True]
    second.answers["run"] = replace(COLLECTOR, runner_id=1)
    for _ in range(3):
        session.poll()
    assert stopped(first) == [False]  # the run cannot do without it
    monkeypatch.setattr(ray_learner, "node_of", lambda actor: "node")
    assert session.poll().waiting_for is None
    assert running(cluster) == [(0, 0), (1, 1), (2, 1)]


def test_automatic_scaling_follows_the_waits_until_a_number_is_given_by_hand(
    cluster: FakeCluster, fake_ray: Ray
) -> None:
    scaling = ("actors.scaling.max_env_runners=3", "actors.scaling.interval_s=10")
    session = cluster.start("actors.num_env_runners=1", *scaling)

    def passes(seconds: float) -> int:
        fake_ray.now += seconds
        (learner,) = cluster.learners.made
        learner.answers["stats"] = replace(TRAINER, wait_s=fake_ray.now)  # it always waits
        return session.poll().env_runners_wanted

    assert [passes(10) for _ in range(3)] == [1, 1, 2]
    session.scale(1)
    assert [passes(10) for _ in range(6)] == [1] * 6
