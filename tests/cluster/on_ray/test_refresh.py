"""Newer teachers in a session on a fake Ray; `test_online.py` has them on a real one."""

from dataclasses import replace

import pytest

from actors.shared_inference import InferenceStats
from cluster.on_ray import teacher_supervisor
from cluster.on_ray.actors import WeightStoreActor
from cluster.on_ray.session import RaySession
from common.policies.policy import Policy, policy_from_bytes
from tests.cartpole import cartpole_teacher
from tests.cluster.fake_ray import COLLECTOR, DIED, PENDING, ActorClass, FakeCluster, Ray

REFRESH = "teacher.refresh={path = 'versions'}"


def version(number: int) -> Policy:
    teacher = cartpole_teacher()
    spec = teacher.spec.model_copy(update={"teacher_version": number})
    return Policy(spec, teacher.network)


def started(cluster: FakeCluster, *overrides: str) -> RaySession:
    cluster.stores.healthy |= {"publish_teacher": None}
    cluster.learners.healthy |= {"take_teacher": None}
    return cluster.start(REFRESH, *overrides)


def version_of(teacher: tuple[str, bytes]) -> int:
    return policy_from_bytes(*teacher).spec.teacher_version


def test_the_learner_has_a_version_before_env_runners_can_ask_for_it(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = started(cluster)
    (learner,), (store,) = cluster.learners.made, cluster.stores.made
    order: list[str] = []
    publish = session._publish_teacher

    def published() -> None:
        order.extend(learner.calls)
        publish()

    monkeypatch.setattr(session, "_publish_teacher", published)
    session.take_teacher(version(1))
    assert order[-1] == "take_teacher"
    assert store.calls == ["publish_teacher"]


def test_a_learner_that_does_not_answer_holds_nobody_up_for_ever(
    cluster: FakeCluster, fake_ray: Ray
) -> None:
    session = started(cluster)
    cluster.learners.made[0].answers["take_teacher"] = PENDING
    session.take_teacher(version(1))
    assert 0 < fake_ray.patience <= 60
    assert cluster.stores.made[0].calls == ["publish_teacher"]


def test_who_is_started_again_starts_with_the_newest_version(cluster: FakeCluster) -> None:
    session = started(cluster)
    assert version_of(cluster.learners.made[0].arguments["teacher"]) == 0
    session.take_teacher(version(2))
    cluster.runners.made[0].die()
    cluster.learners.made[0].die()
    session.poll()
    assert version_of(cluster.runners.made[-1].positional[1]) == 2
    assert version_of(cluster.learners.made[-1].arguments["teacher"]) == 2


def test_a_version_that_the_store_forgot_is_published_until_every_env_runner_has_it(
    cluster: FakeCluster,
) -> None:
    """The store starts again empty where its node dies; a second time changes nothing there."""
    cluster.runners.healthy["stats"] = replace(COLLECTOR, teacher_version=0)
    session = started(cluster)
    (store,) = cluster.stores.made
    session.poll()
    assert store.calls == []
    session.take_teacher(version(1))
    session.poll()
    session.poll()
    assert store.calls == ["publish_teacher"] * 3
    for runner in cluster.runners.made:
        runner.answers["stats"] = replace(COLLECTOR, teacher_version=1)
    session.poll()
    told = len(store.calls)
    session.poll()
    session.poll()
    assert len(store.calls) == told


def test_shared_inference_gets_it_and_every_new_life_too(
    cluster: FakeCluster, fake_ray: Ray, monkeypatch: pytest.MonkeyPatch
) -> None:
    stats = InferenceStats(life="a", ready=True, pid=7, num_rows=8, num_batches=1)
    shared = ActorClass({"stats": stats, "load": None})
    monkeypatch.setattr(teacher_supervisor, "ray", fake_ray)
    monkeypatch.setattr(teacher_supervisor, "RAY_SHARED_INFERENCE", shared)
    session = started(cluster, "actors.inference.placement=shared")
    (actor,) = shared.made
    session.poll()
    assert actor.calls.count("load") == 0
    session.take_teacher(version(1))
    assert actor.calls.count("load") == 1
    actor.answers["stats"] = replace(stats, life="b", ready=False)
    session.poll()
    session.poll()
    assert actor.calls.count("load") == 2
    assert version_of(session._shared_teachers._teacher) == 1


def test_a_dead_learner_does_not_break_it(cluster: FakeCluster) -> None:
    session = started(cluster)
    cluster.learners.made[0].die()
    cluster.learners.made[0].answers["take_teacher"] = DIED
    session.take_teacher(version(1))
    session.poll()
    assert version_of(cluster.learners.made[-1].arguments["teacher"]) == 1


def test_the_store_hands_out_newer_versions_only() -> None:
    store = WeightStoreActor()
    assert store.teacher_if_newer(0) == []
    store.publish_teacher(2, ["second"])
    store.publish_teacher(1, ["first"])
    assert store.teacher_if_newer(1) == ["second"]
    assert store.teacher_if_newer(2) == []
