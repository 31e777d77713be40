"""The learner's ranks on a fake Ray: every death and silence, without a process."""

import pytest
from ray.exceptions import ActorDiedError, RayTaskError

from common.errors import ResourceError, RunFailedError
from tests.cluster.fake_ray import (
    DIED,
    PENDING,
    FakeCluster,
    Ray,
    assert_one_line,
    stopped,
    task_error,
)


def test_a_learner_whose_loop_ended_has_finished(cluster: FakeCluster) -> None:
    session = cluster.start()
    cluster.learners.made[0].answers["run"] = None
    assert session.poll().finished
    assert len(cluster.learners.made) == 1


def test_a_dead_learner_starts_again_and_its_former_self_is_killed(cluster: FakeCluster) -> None:
    session = cluster.start()
    (first,) = cluster.learners.made
    first.die()
    snapshot = session.poll()
    assert (snapshot.restarts["learner"], snapshot.finished) == (1, False)
    assert first.killed
    _, second = cluster.learners.made
    assert second.arguments == first.arguments
    assert "run" in second.calls
    assert session.poll().restarts["learner"] == 1


def ranks(number: int) -> tuple[str, ...]:
    shares = (f"replay.num_shards={number}", f"actors.num_env_runners={number}")
    return (f"learner.num_ranks={number}", *shares, "actors.num_cpus_per_runner=0.2")


def test_every_rank_reads_shards_of_its_own(cluster: FakeCluster) -> None:
    cluster.start(*ranks(2), "replay.num_shards=4", "actors.num_env_runners=4")
    first, second = (actor.arguments for actor in cluster.learners.made)
    assert first["shards"] == cluster.shards.made[::2]
    assert second["shards"] == cluster.shards.made[1::2]
    assert (first["rank"], second["rank"]) == (0, 1)


def test_a_run_of_several_ranks_has_finished_with_the_last_of_them(cluster: FakeCluster) -> None:
    session = cluster.start(*ranks(2))
    first, second = cluster.learners.made
    first.answers["run"] = None
    assert not session.poll().finished
    second.answers["run"] = None
    assert session.poll().finished


@pytest.mark.parametrize("noticed_first", [True, False])
def test_all_ranks_start_again_where_one_died(cluster: FakeCluster, noticed_first: bool) -> None:
    session = cluster.start(*ranks(2))
    first, second = cluster.learners.made
    first.answers["run"] = task_error(RuntimeError("Connection closed by peer"))
    second.die()
    if not noticed_first:
        second.answers["run"] = PENDING
    assert session.poll().restarts["learner"] == 1
    assert (first.killed, second.killed) == (True, True)
    assert [actor.arguments["rank"] for actor in cluster.learners.made] == [0, 1, 0, 1]
    assert session.poll().restarts["learner"] == 1


def test_a_rank_that_does_not_answer_is_as_good_as_dead(cluster: FakeCluster) -> None:
    session = cluster.start(*ranks(2))
    first, second = cluster.learners.made
    first.answers["run"] = task_error(RuntimeError("timed out"))
    second.answers["pid"] = PENDING
    assert session.poll().restarts["learner"] == 1


def test_what_a_rank_raises_while_all_live_ends_the_run(cluster: FakeCluster) -> None:
    session = cluster.start(*ranks(2))
    cluster.learners.made[1].answers["run"] = task_error(ValueError("bad"))
    with pytest.raises(RunFailedError, match=r"^the learner failed: ValueError: bad$"):
        session.poll()


def test_a_rank_that_dies_before_all_have_met_is_seen(cluster: FakeCluster) -> None:
    cluster.learners.lives = [{"stats": PENDING}, {"run": DIED, "pid": DIED}]
    assert cluster.start(*ranks(2)).poll().restarts["learner"] == 1


def test_finish_stops_every_rank_and_abort_kills_every_rank(cluster: FakeCluster) -> None:
    session = cluster.start(*ranks(2))
    for learner in cluster.learners.made:
        learner.answers["run"] = None
    assert session.finish().spec.name == "trained"
    assert stopped(*cluster.learners.made) == [True, True]
    assert all(actor.killed for actor in cluster.all)


def test_a_learner_that_dies_too_often_ends_the_run(cluster: FakeCluster) -> None:
    session = cluster.start()
    for _ in range(2):
        cluster.learners.made[-1].die()
        session.poll()
    cluster.learners.made[-1].die()
    with pytest.raises(RunFailedError, match="the learner died 3 times") as caught:
        session.poll()
    assert_one_line(caught.value)


def test_what_a_learner_raises_ends_the_run_at_once(cluster: FakeCluster) -> None:
    session = cluster.start()
    cluster.learners.made[0].answers["run"] = task_error(ValueError("bad"))
    with pytest.raises(RunFailedError) as caught:
        session.poll()
    assert str(caught.value) == "the learner failed: ValueError: bad"
    assert len(cluster.learners.made) == 1


def test_what_a_learner_raises_on_purpose_is_told_as_it_is(cluster: FakeCluster) -> None:
    session = cluster.start()
    own = RunFailedError("10 steps in a row gave NaN")
    cluster.learners.made[0].answers["run"] = task_error(own)
    with pytest.raises(RunFailedError) as caught:
        session.poll()
    assert caught.value is own


def test_a_learner_that_cannot_be_built_ends_the_run_in_one_line(cluster: FakeCluster) -> None:
    cause = RayTaskError(
        "__init__", "Traceback\n  line\nValueError: bad", ValueError("bad"), "p", 1, "10.0.0.1"
    )
    failed = dict.fromkeys(("run", "stats"), ActorDiedError(cause))
    cluster.learners.lives = [failed] * 9
    with pytest.raises(RunFailedError, match=r"died 3 times; the last time: ValueError: bad$"):
        cluster.start()
    assert len(cluster.learners.made) == 3


def test_a_learner_that_dies_while_it_starts_gets_another_chance(cluster: FakeCluster) -> None:
    cluster.learners.lives = [dict.fromkeys(("run", "stats"), DIED)]
    assert cluster.start().poll().restarts["learner"] == 1


def test_a_cluster_that_has_no_room_is_told_of(cluster: FakeCluster) -> None:
    cluster.learners.lives = [{"stats": PENDING}]
    with pytest.raises(ResourceError, match="did not start within 300 s"):
        cluster.start()


def test_finish_gets_the_student_of_a_learner_that_is_dead(cluster: FakeCluster) -> None:
    session = cluster.start()
    cluster.learners.made[0].die()
    cluster.learners.lives = [{"run": None}]
    assert session.finish().spec.name == "trained"
    assert len(cluster.learners.made) == 2
    assert stopped(cluster.learners.made[1]) == [True]
    assert all(actor.killed for actor in cluster.all)


def test_finish_gets_the_student_where_the_learner_dies_after_its_last_step(
    cluster: FakeCluster,
) -> None:
    session = cluster.start()
    cluster.learners.made[0].answers |= {"run": None, "student": DIED}
    cluster.learners.lives = [{"run": None}]
    assert session.finish().spec.name == "trained"


def test_finish_gives_up_on_a_learner_that_does_not_stop(cluster: FakeCluster) -> None:
    session = cluster.start()
    with pytest.raises(RunFailedError, match=r"did not stop within 300 s; .*stillhouse resume"):
        session.finish()


def test_finish_gives_up_on_a_learner_that_dies_too_often(cluster: FakeCluster) -> None:
    session = cluster.start()
    cluster.learners.made[0].die()
    cluster.learners.lives = [{"run": DIED}] * 9
    with pytest.raises(RunFailedError, match="died 3 times"):
        session.finish()


@pytest.mark.parametrize("silent", [0, 1])
def test_a_rank_that_falls_silent_takes_all_with_it(
    silent: int, cluster: FakeCluster, fake_ray: Ray
) -> None:
    session = cluster.start(*ranks(2), "supervision.silence_s=30")
    session.poll()
    cluster.learners.made[silent].answers["stats"] = PENDING
    session.poll()
    fake_ray.now += 31
    assert session.poll().restarts["learner"] == 1
    assert [actor.killed for actor in cluster.learners.made] == [True, True, False, False]
    assert session.poll().restarts["learner"] == 1
