"""A session on a fake Ray; the same on a real cluster is in `test_runs.py` and `test_faults.py`."""

from dataclasses import replace

import pytest

from actors.shared_inference import InferenceStats
from cluster.on_ray import teacher_supervisor
from cluster.on_ray.shared_teacher import SharedTeacher
from common.policies.policy import policy_to_bytes
from common.trajectory import Life
from learners.counting import LifeCount
from tests.cartpole import cartpole_teacher
from tests.cluster.fake_ray import (
    COLLECTOR,
    DIED,
    PENDING,
    SHARD,
    TRAINER,
    ActorClass,
    FakeCluster,
    Ray,
    stopped,
)


def test_a_poll_tells_what_all_actors_report(cluster: FakeCluster) -> None:
    snapshot = cluster.start("replay.num_shards=2").poll()
    assert snapshot.trainer == TRAINER
    assert snapshot.collectors == (COLLECTOR, COLLECTOR)
    assert snapshot.shards == (SHARD, SHARD)
    assert (sum(snapshot.restarts.values()), snapshot.finished) == (0, False)


def test_env_runners_hear_where_the_session_starts(cluster: FakeCluster) -> None:
    cluster.learners.healthy["stats"] = replace(TRAINER, env_steps=4_096)
    session = cluster.start()
    cluster.runners.made[0].die()
    session.poll()
    started = [actor.arguments["start_env_steps"] for actor in cluster.runners.made]
    assert started == [4_096] * 3


@pytest.mark.parametrize("holder", ["learner", "second rank", "shard"])
def test_lives_go_on_above_all_that_a_checkpoint_knows(holder: str, cluster: FakeCluster) -> None:
    """Else chunks of the new env runners would be taken for old ones."""
    life = Life(1, 4)
    known = replace(TRAINER, lives={life: LifeCount(8, 0)})
    if holder == "learner":
        cluster.learners.healthy["stats"] = known
    elif holder == "second rank":
        cluster.learners.lives = [{}, {"stats": known}]
    else:
        cluster.shards.healthy["stats"] = replace(SHARD, unseen={life: 8})
    num_ranks = 2 if holder == "second rank" else 1
    cluster.start(
        f"learner.num_ranks={num_ranks}",
        "replay.num_shards=2",
        "actors.num_cpus_per_runner=0.4",
    )
    assert [actor.arguments["incarnation"] for actor in cluster.runners.made] == [5, 5]


def test_a_last_checkpoint_that_could_not_be_written_is_told(cluster: FakeCluster) -> None:
    session = cluster.start()
    cluster.learners.made[0].answers |= {"run": None, "unsaved": "no space"}
    session.finish()
    assert session.unsaved == "no space"


def test_a_teacher_goes_where_the_recipe_places_it(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = policy_to_bytes(cartpole_teacher())
    session = cluster.start()
    assert [actor.positional[1] for actor in cluster.runners.made] == [teacher] * 2
    assert cluster.learners.made[0].arguments["teacher"] is None
    cluster.start("actors.inference.placement=at_sampling")
    assert cluster.runners.made[2].positional[1] == teacher
    assert cluster.learners.made[1].arguments["teacher"] == teacher
    assert session.poll().inference == ()


def test_shared_teachers_are_asked_supervised_and_ended(
    cluster: FakeCluster, fake_ray: Ray, monkeypatch: pytest.MonkeyPatch
) -> None:
    stats = InferenceStats(life="a", ready=True, pid=7, num_rows=8, num_batches=1)
    shared = ActorClass({"stats": stats})
    monkeypatch.setattr(teacher_supervisor, "ray", fake_ray)
    monkeypatch.setattr(teacher_supervisor, "RAY_SHARED_INFERENCE", shared)
    session = cluster.start("actors.inference.placement=shared")
    (actor,) = shared.made
    asked = [runner.positional[1] for runner in cluster.runners.made]
    assert [type(teacher) for teacher in asked] == [SharedTeacher] * 2
    assert [teacher.actor for teacher in asked] == [actor, actor]
    assert cluster.learners.made[0].arguments["teacher"] is None
    assert session.poll().inference == (stats,)
    actor.answers["stats"] = replace(stats, life="b")
    session.poll()  # takes the answer that was asked for before
    assert session.poll().restarts["inference"] == 1
    session.abort()
    assert actor.killed


def test_who_does_not_answer_keeps_its_last_report(cluster: FakeCluster) -> None:
    session = cluster.start("replay.num_shards=2")
    session.poll()
    cluster.learners.made[0].answers["stats"] = DIED
    cluster.shards.made[0].answers["stats"] = DIED
    cluster.shards.made[1].answers["stats"] = replace(SHARD, inserted=7_777)
    snapshot = session.poll()
    assert snapshot.trainer == TRAINER
    assert snapshot.shards == (SHARD, SHARD)


def test_finish_stops_all_loops_and_brings_the_student_home(cluster: FakeCluster) -> None:
    session = cluster.start()
    (learner,) = cluster.learners.made
    learner.answers["run"] = None
    student = session.finish()
    assert student.spec.name == "trained"
    assert stopped(learner, *cluster.runners.made) == [True] * 3
    assert all(actor.killed for actor in cluster.all)


def test_finish_does_not_wait_for_env_runners_that_are_dead_or_stuck(cluster: FakeCluster) -> None:
    session = cluster.start()
    cluster.learners.made[0].answers["run"] = None
    cluster.runners.made[0].die()
    cluster.runners.made[1].answers["stop"] = PENDING
    assert session.finish().spec.name == "trained"


def test_abort_kills_every_actor(cluster: FakeCluster) -> None:
    session = cluster.start("replay.num_shards=2")
    session.abort()
    assert len(cluster.all) == 6
    assert all(actor.killed for actor in cluster.all)
