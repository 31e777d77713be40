"""The supervisor against a Ray whose actors do as they are told: every death, without a process.

The same on a real cluster is in `test_runs.py`.
"""

import socket
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ray.exceptions import ActorDiedError, GetTimeoutError, RayTaskError

from actors.collector import CollectorStats
from actors.env_runner import EpisodeResult
from actors.evaluator import EvaluationResult
from actors.shared_inference import InferenceStats
from cluster import ray_backend, ray_learner, teacher_supervisor
from cluster.prepare import Preparation, prepare
from cluster.ray_backend import RayBackend, RaySession, _together
from cluster.session import EvaluationJob
from cluster.shared_teacher import SharedTeacher
from common.errors import ConfigError, ResourceError, RunFailedError
from common.policies.policy import new_policy, policy_to_bytes
from common.replay.shard import ShardStats
from common.trajectory import STUDENT
from learners.trainer import TrainerStats
from tests.cartpole import cartpole_teacher, load_config

TRAINER = TrainerStats(
    learner_steps=1,
    env_steps=100,
    samples=200,
    window_size=100,
    policy_version=1,
    skipped_steps=0,
    restores=0,
    learning_rate=1e-3,
    wait_s=0.0,
    step_s=0.0,
    metrics={},
)
EPISODE = EpisodeResult(acting_policy=STUDENT, episode_return=9.0, length=9, policy_version=1)
COLLECTOR = CollectorStats(
    runner_id=0,
    incarnation=0,
    env_steps=50,
    chunks=1,
    policy_version=1,
    sample_s=0.0,
    wait_s=0.0,
    episodes=(EPISODE,),
)
SHARD = ShardStats(inserted=100, sampled=200, transitions=100, num_bytes=999, duplicates=0)
TRAINED = new_policy(cartpole_teacher().spec.model_copy(update={"name": "trained"}), seed=5)

PENDING = object()
"""A call that is not answered."""
DIED = ActorDiedError()


def task_error(cause: Exception) -> RayTaskError:
    error = RayTaskError("run", "Traceback\n  line\n", cause, proctitle="p", pid=1, ip="10.0.0.1")
    return error.as_instanceof_cause()


class Call:
    """A reference to the answer of a call, looked up when it is asked for."""

    def __init__(self, answer: Callable[[], Any]) -> None:
        self.answer = answer


class Actor:
    """Answers each method with what `answers` holds for it at that time."""

    def __init__(
        self, positional: tuple[Any, ...], arguments: dict[str, Any], answers: dict[str, Any]
    ) -> None:
        self.positional = positional
        self.arguments = arguments
        self.answers = answers
        self.calls: list[str] = []
        self.killed = False

    def __getattr__(self, method: str) -> Any:
        def remote(*arguments: Any) -> Call:
            self.calls.append(method)
            # A loop's end can come after the call; all else is answered at once.
            answer = self.answers.get(method)
            return Call(lambda: self.answers.get(method) if method == "run" else answer)

        return SimpleNamespace(remote=remote)

    def die(self, error: Exception = DIED) -> None:
        """Fail the loop and every later call."""
        self.answers = dict.fromkeys((*self.answers, "stop", "pid"), error)


class ActorClass:
    """Makes actors; `lives` says how the first ones answer, and the rest answers well."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.healthy = answers
        self.lives: list[dict[str, Any]] = []
        self.made: list[Actor] = []

    def options(self, **options: Any) -> "ActorClass":
        return self

    def remote(self, *positional: Any, **arguments: Any) -> Actor:
        answers = self.lives.pop(0) if self.lives else {}
        self.made.append(Actor(positional, arguments, self.healthy | answers))
        return self.made[-1]


class Ray:
    """What `cluster.ray_backend` uses of Ray."""

    def __init__(self) -> None:
        self.resources = {"CPU": 2.0}
        self.init: Callable[..., Any] = lambda **options: None

    def get(self, what: Call | Iterable[Call], timeout: float | None = None) -> Any:
        if not isinstance(what, Call):
            return [self.get(call, timeout) for call in what]
        answer = what.answer()
        if answer is PENDING:
            assert timeout is not None, "this would wait for ever"
            raise GetTimeoutError
        if isinstance(answer, Exception):
            raise answer
        return answer

    def wait(
        self, calls: list[Call], *, num_returns: int, timeout: float
    ) -> tuple[list[Call], list[Call]]:
        ready = [call for call in calls if call.answer() is not PENDING][:num_returns]
        return ready, [call for call in calls if call not in ready]

    def put(self, value: Any) -> Any:
        return value

    def kill(self, actor: Actor) -> None:
        actor.killed = True

    def cluster_resources(self) -> dict[str, float]:
        return self.resources

    def shutdown(self) -> None:
        pass


@pytest.fixture
def fake_ray(monkeypatch: pytest.MonkeyPatch) -> Ray:
    fake = Ray()
    monkeypatch.setattr(ray_backend, "ray", fake)
    monkeypatch.setattr(ray_learner, "ray", fake)
    return fake


class Cluster:
    """A session on fake actors."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.learners = ActorClass(
            {"run": PENDING, "stats": TRAINER, "student": policy_to_bytes(TRAINED), "stop": None}
        )
        self.runners = ActorClass({"run": PENDING, "stats": COLLECTOR, "stop": None, "pid": 42})
        self.shards = ActorClass({"stats": SHARD})
        self.stores = ActorClass({})
        for name, actors in (
            ("RAY_LEARNER", self.learners),
            ("RAY_ENV_RUNNER", self.runners),
            ("RAY_REPLAY_SHARD", self.shards),
            ("RAY_WEIGHT_STORE", self.stores),
        ):
            monkeypatch.setattr(ray_backend, name, actors)

    def prepared(self, *overrides: str) -> Preparation:
        limits = ("learner.max_restarts=2", "actors.max_restarts=2", "actors.num_env_runners=2")
        config = load_config(self.folder, *limits, *overrides)
        return prepare(config, num_cpus=2, num_gpus=0)

    def start(self, *overrides: str) -> RaySession:
        checkpoints = self.folder / "checkpoints"
        session = RayBackend(address=None, num_cpus=2).distil(
            self.prepared(*overrides), cartpole_teacher(), checkpoints
        )
        assert isinstance(session, RaySession)
        return session

    @property
    def all(self) -> list[Actor]:
        classes = (self.learners, self.runners, self.shards, self.stores)
        return [actor for actors in classes for actor in actors.made]


@pytest.fixture
def cluster(tmp_path: Path, fake_ray: Ray, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    return Cluster(tmp_path, monkeypatch)


def assert_one_line(error: BaseException) -> None:
    assert "\n" not in str(error)
    assert "Traceback" not in str(error)


def test_a_poll_tells_what_all_actors_report(cluster: Cluster) -> None:
    snapshot = cluster.start("replay.num_shards=2").poll()
    assert snapshot.trainer == TRAINER
    assert snapshot.collectors == (COLLECTOR, COLLECTOR)
    assert snapshot.shards == (SHARD, SHARD)
    assert (snapshot.restarts, snapshot.finished) == (0, False)


def test_env_runners_are_shared_out_among_the_shards(cluster: Cluster) -> None:
    cluster.start("replay.num_shards=2")
    assert [actor.arguments["shard"] for actor in cluster.runners.made] == cluster.shards.made


def test_a_teacher_goes_where_the_recipe_places_it(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
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
    cluster: Cluster, fake_ray: Ray, monkeypatch: pytest.MonkeyPatch
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
    assert session.poll().restarts == 1
    session.abort()
    assert actor.killed


def test_a_learner_whose_loop_ended_has_finished(cluster: Cluster) -> None:
    session = cluster.start()
    cluster.learners.made[0].answers["run"] = None
    assert session.poll().finished
    assert len(cluster.learners.made) == 1


def test_a_dead_learner_starts_again_and_its_former_self_is_killed(cluster: Cluster) -> None:
    session = cluster.start()
    (first,) = cluster.learners.made
    first.die()
    snapshot = session.poll()
    assert (snapshot.restarts, snapshot.finished) == (1, False)
    assert first.killed
    _, second = cluster.learners.made
    assert second.arguments == first.arguments
    assert "run" in second.calls
    assert session.poll().restarts == 1


def ranks(number: int) -> tuple[str, ...]:
    shares = (f"replay.num_shards={number}", f"actors.num_env_runners={number}")
    return (f"learner.num_ranks={number}", *shares, "actors.num_cpus_per_runner=0.2")


def test_every_rank_reads_shards_of_its_own(cluster: Cluster) -> None:
    cluster.start(*ranks(2), "replay.num_shards=4", "actors.num_env_runners=4")
    first, second = (actor.arguments for actor in cluster.learners.made)
    assert first["shards"] == cluster.shards.made[::2]
    assert second["shards"] == cluster.shards.made[1::2]
    assert (first["rank"], second["rank"]) == (0, 1)


def test_a_run_of_several_ranks_has_finished_with_the_last_of_them(cluster: Cluster) -> None:
    session = cluster.start(*ranks(2))
    first, second = cluster.learners.made
    first.answers["run"] = None
    assert not session.poll().finished
    second.answers["run"] = None
    assert session.poll().finished


@pytest.mark.parametrize("noticed_first", [True, False])
def test_all_ranks_start_again_where_one_died(cluster: Cluster, noticed_first: bool) -> None:
    session = cluster.start(*ranks(2))
    first, second = cluster.learners.made
    first.answers["run"] = task_error(RuntimeError("Connection closed by peer"))
    second.die()
    if not noticed_first:
        second.answers["run"] = PENDING
    assert session.poll().restarts == 1
    assert (first.killed, second.killed) == (True, True)
    assert [actor.arguments["rank"] for actor in cluster.learners.made] == [0, 1, 0, 1]
    assert session.poll().restarts == 1


def test_a_rank_that_does_not_answer_is_as_good_as_dead(cluster: Cluster) -> None:
    session = cluster.start(*ranks(2))
    first, second = cluster.learners.made
    first.answers["run"] = task_error(RuntimeError("timed out"))
    second.answers["pid"] = PENDING
    assert session.poll().restarts == 1


def test_what_a_rank_raises_while_all_live_ends_the_run(cluster: Cluster) -> None:
    session = cluster.start(*ranks(2))
    cluster.learners.made[1].answers["run"] = task_error(ValueError("bad"))
    with pytest.raises(RunFailedError, match=r"^the learner failed: ValueError: bad$"):
        session.poll()


def test_a_rank_that_dies_before_all_have_met_is_seen(cluster: Cluster) -> None:
    cluster.learners.lives = [{"stats": PENDING}, {"run": DIED, "pid": DIED}]
    assert cluster.start(*ranks(2)).poll().restarts == 1


def test_finish_stops_every_rank_and_abort_kills_every_rank(cluster: Cluster) -> None:
    session = cluster.start(*ranks(2))
    for learner in cluster.learners.made:
        learner.answers["run"] = None
    assert session.finish().spec.name == "trained"
    assert stopped(cluster, *cluster.learners.made) == [True, True]
    assert all(actor.killed for actor in cluster.all)


def test_a_learner_that_dies_too_often_ends_the_run(cluster: Cluster) -> None:
    session = cluster.start()
    for _ in range(2):
        cluster.learners.made[-1].die()
        session.poll()
    cluster.learners.made[-1].die()
    with pytest.raises(RunFailedError, match="the learner died 3 times") as caught:
        session.poll()
    assert_one_line(caught.value)


def test_what_a_learner_raises_ends_the_run_at_once(cluster: Cluster) -> None:
    session = cluster.start()
    cluster.learners.made[0].answers["run"] = task_error(ValueError("bad"))
    with pytest.raises(RunFailedError) as caught:
        session.poll()
    assert str(caught.value) == "the learner failed: ValueError: bad"
    assert len(cluster.learners.made) == 1


def test_what_a_learner_raises_on_purpose_is_told_as_it_is(cluster: Cluster) -> None:
    session = cluster.start()
    own = RunFailedError("10 steps in a row gave NaN")
    cluster.learners.made[0].answers["run"] = task_error(own)
    with pytest.raises(RunFailedError) as caught:
        session.poll()
    assert caught.value is own


def test_a_learner_that_cannot_be_built_ends_the_run_in_one_line(cluster: Cluster) -> None:
    cause = RayTaskError(
        "__init__", "Traceback\n  line\nValueError: bad", ValueError("bad"), "p", 1, "10.0.0.1"
    )
    failed = dict.fromkeys(("run", "stats"), ActorDiedError(cause))
    cluster.learners.lives = [failed] * 9
    with pytest.raises(RunFailedError, match=r"died 3 times; the last time: ValueError: bad$"):
        cluster.start()
    assert len(cluster.learners.made) == 3


def test_a_learner_that_dies_while_it_starts_gets_another_chance(cluster: Cluster) -> None:
    cluster.learners.lives = [dict.fromkeys(("run", "stats"), DIED)]
    assert cluster.start().poll().restarts == 1


def test_a_cluster_that_has_no_room_is_told_of(cluster: Cluster) -> None:
    cluster.learners.lives = [{"stats": PENDING}]
    with pytest.raises(ResourceError, match="did not start within 300 s"):
        cluster.start()


def test_a_cluster_that_is_too_small_is_refused_before_anything_starts(
    cluster: Cluster, fake_ray: Ray
) -> None:
    fake_ray.resources = {"CPU": 1.0}
    with pytest.raises(ResourceError, match=r"asks for 1.9 CPUs .* there are 1;"):
        cluster.start()
    assert cluster.all == []


def test_a_dead_env_runner_starts_again_as_its_next_incarnation(cluster: Cluster) -> None:
    session = cluster.start()
    first, other = cluster.runners.made
    first.die()
    assert session.poll().restarts == 1
    assert (first.killed, other.killed) == (True, False)
    again = cluster.runners.made[2]
    assert again.arguments == first.arguments | {"incarnation": 1}
    assert session.poll().restarts == 1
    assert len(cluster.runners.made) == 3


def test_an_env_runner_that_fails_too_often_ends_the_run(cluster: Cluster) -> None:
    session = cluster.start()
    failing = {"run": task_error(ValueError("bad")), "stats": DIED}
    cluster.runners.lives = [failing] * 9
    cluster.runners.made[0].die()
    session.poll()
    session.poll()
    with pytest.raises(RunFailedError) as caught:
        session.poll()
    assert str(caught.value) == "env runners died 3 times; the last time: ValueError: bad"


def test_episodes_are_told_once(cluster: Cluster) -> None:
    session = cluster.start()
    assert [len(stats.episodes) for stats in session.poll().collectors] == [1, 1]
    cluster.runners.made[0].answers["stats"] = PENDING
    cluster.runners.made[1].answers["stats"] = replace(COLLECTOR, env_steps=99)
    slow, quick = session.poll().collectors
    assert slow == replace(COLLECTOR, episodes=())
    assert quick == replace(COLLECTOR, env_steps=99)


def test_who_does_not_answer_keeps_its_last_report(cluster: Cluster) -> None:
    session = cluster.start("replay.num_shards=2")
    session.poll()
    cluster.learners.made[0].answers["stats"] = DIED
    cluster.shards.made[0].answers["stats"] = DIED
    cluster.shards.made[1].answers["stats"] = replace(SHARD, inserted=7_777)
    snapshot = session.poll()
    assert snapshot.trainer == TRAINER
    assert snapshot.shards == (SHARD, SHARD)


def stopped(cluster: Cluster, *actors: Actor) -> list[bool]:
    return ["stop" in actor.calls for actor in actors]


def test_finish_stops_all_loops_and_brings_the_student_home(cluster: Cluster) -> None:
    session = cluster.start()
    (learner,) = cluster.learners.made
    learner.answers["run"] = None
    student = session.finish()
    assert student.spec.name == "trained"
    assert stopped(cluster, learner, *cluster.runners.made) == [True] * 3
    assert all(actor.killed for actor in cluster.all)


def test_finish_gets_the_student_of_a_learner_that_is_dead(cluster: Cluster) -> None:
    session = cluster.start()
    cluster.learners.made[0].die()
    cluster.learners.lives = [{"run": None}]
    assert session.finish().spec.name == "trained"
    assert len(cluster.learners.made) == 2
    assert stopped(cluster, cluster.learners.made[1]) == [True]
    assert all(actor.killed for actor in cluster.all)


def test_finish_gets_the_student_where_the_learner_dies_after_its_last_step(
    cluster: Cluster,
) -> None:
    session = cluster.start()
    cluster.learners.made[0].answers |= {"run": None, "student": DIED}
    cluster.learners.lives = [{"run": None}]
    assert session.finish().spec.name == "trained"


def test_finish_does_not_wait_for_env_runners_that_are_dead_or_stuck(cluster: Cluster) -> None:
    session = cluster.start()
    cluster.learners.made[0].answers["run"] = None
    cluster.runners.made[0].die()
    cluster.runners.made[1].answers["stop"] = PENDING
    assert session.finish().spec.name == "trained"


def test_finish_gives_up_on_a_learner_that_does_not_stop(cluster: Cluster) -> None:
    session = cluster.start()
    with pytest.raises(RunFailedError, match=r"did not stop within 60 s; .*stillhouse resume"):
        session.finish()


def test_finish_gives_up_on_a_learner_that_dies_too_often(cluster: Cluster) -> None:
    session = cluster.start()
    cluster.learners.made[0].die()
    cluster.learners.lives = [{"run": DIED}] * 9
    with pytest.raises(RunFailedError, match="died 3 times"):
        session.finish()


def test_abort_kills_every_actor(cluster: Cluster) -> None:
    session = cluster.start("replay.num_shards=2")
    session.abort()
    assert len(cluster.all) == 6
    assert all(actor.killed for actor in cluster.all)


@pytest.mark.parametrize(
    "error", [ConnectionError("nobody\nthere"), RuntimeError("other version"), ValueError("what?")]
)
def test_a_cluster_that_cannot_be_used_is_a_mistake(error: Exception, fake_ray: Ray) -> None:
    def init(**options: Any) -> None:
        assert options["address"] == "auto"
        raise error

    fake_ray.init = init
    with pytest.raises(ResourceError, match="--address auto: cannot use a Ray cluster") as caught:
        RayBackend(address="auto", num_cpus=2)
    assert_one_line(caught.value)


def test_an_address_where_nobody_listens_is_found_before_ray_looks_for_minutes(
    fake_ray: Ray,
) -> None:
    def init(**options: Any) -> None:
        raise AssertionError("Ray was asked")

    fake_ray.init = init
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ResourceError, match=f"--address {address}: .*ConnectionRefused"):
            RayBackend(address=address, num_cpus=2)


def test_an_address_where_somebody_listens_is_left_to_ray(fake_ray: Ray) -> None:
    asked: list[str] = []
    fake_ray.init = lambda **options: asked.append(options["address"])
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        RayBackend(address=address, num_cpus=2)
    RayBackend(address="ray://127.0.0.1:1", num_cpus=2)
    assert asked == [address, "ray://127.0.0.1:1"]


def test_a_ray_that_does_not_start_here_is_no_mistake(fake_ray: Ray) -> None:
    def init(**options: Any) -> None:
        assert (options["address"], options["num_cpus"]) == ("local", 2)
        raise OSError("no space")

    fake_ray.init = init
    with pytest.raises(RunFailedError, match=r"does not start .*\(OSError: no space\)"):
        RayBackend(address=None, num_cpus=2)


class Play:
    """Stands for the task that plays a share of the episodes."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[int, int, int]] = []

    def remote(self, recipe: str, policy: Any, reference: Any, *numbers: int) -> Call:
        self.asked.append(numbers)
        answer = self.answers.pop(0)
        return Call(lambda: answer)


def result(*returns: float, observations: int = 0, **changes: Any) -> EvaluationResult:
    fields: dict[str, Any] = {
        "returns": returns,
        "lengths": tuple(int(value) for value in returns),
        "num_compared": 0,
        "greedy_agreement": None,
        "value_error": None,
        "value_scale": None,
        "observations": np.full((observations, 4), sum(returns), np.float32),
    }
    return EvaluationResult(**(fields | changes))


def test_episodes_are_shared_out_and_none_is_played_twice(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = cluster.prepared("evaluation.num_workers=3").config
    play = Play(result(1.0), result(2.0), result(3.0))
    monkeypatch.setattr(ray_backend, "RAY_PLAY", play)
    job = EvaluationJob(policy=None, reference=None, num_episodes=8, seed=5, num_observations=10)
    merged = RayBackend(address=None, num_cpus=2).evaluate(config, job)
    assert merged.returns == (1.0, 2.0, 3.0)
    episodes, seeds, observations = zip(*play.asked, strict=True)
    assert episodes == (3, 3, 2)
    assert len(set(seeds)) == 3
    assert observations == (4, 4, 4)


def test_fewer_episodes_than_workers_leave_no_worker_without(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = cluster.prepared("evaluation.num_workers=3").config
    play = Play(result(1.0), result(2.0))
    monkeypatch.setattr(ray_backend, "RAY_PLAY", play)
    job = EvaluationJob(policy=None, reference=None, num_episodes=2, seed=0)
    RayBackend(address=None, num_cpus=2).evaluate(config, job)
    assert [episodes for episodes, _, _ in play.asked] == [1, 1]


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        (task_error(ValueError("bad")), "an evaluation failed: ValueError: bad"),
        (task_error(ConfigError("no such ROM")), "no such ROM"),
    ],
)
def test_an_evaluation_that_fails_is_told_in_one_line(
    raised: Exception, message: str, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = cluster.prepared().config
    monkeypatch.setattr(ray_backend, "RAY_PLAY", Play(result(1.0), raised))
    job = EvaluationJob(policy=None, reference=None, num_episodes=2, seed=0)
    with pytest.raises((RunFailedError, ConfigError)) as caught:
        RayBackend(address=None, num_cpus=2).evaluate(config, job)
    assert str(caught.value) == message


def test_shares_are_put_together_in_order() -> None:
    merged = _together([result(1.0, 2.0, observations=2), result(3.0, observations=1)])
    assert merged.returns == (1.0, 2.0, 3.0)
    assert merged.lengths == (1, 2, 3)
    assert merged.observations.tolist() == [[3.0] * 4] * 3


def test_means_are_weighted_by_the_states_compared() -> None:
    merged = _together(
        [
            result(1.0, num_compared=300, greedy_agreement=1.0, value_error=0.0, value_scale=1.0),
            result(1.0, num_compared=100, greedy_agreement=0.6, value_error=2.0, value_scale=3.0),
        ]
    )
    assert merged.num_compared == 400
    assert merged.greedy_agreement == pytest.approx(0.9)
    assert merged.value_error == pytest.approx(0.5)
    assert merged.value_scale == pytest.approx(1.5)


def test_a_share_without_a_figure_has_no_weight_in_its_mean() -> None:
    merged = _together(
        [
            result(1.0, num_compared=100, greedy_agreement=0.5, value_error=None),
            result(1.0, num_compared=300, greedy_agreement=0.9, value_error=0.25),
            result(1.0, num_compared=0, greedy_agreement=None),
        ]
    )
    assert merged.num_compared == 400
    assert merged.greedy_agreement == pytest.approx(0.8)
    assert merged.value_error == 0.25


def test_without_a_comparison_there_are_no_means() -> None:
    merged = _together([result(1.0), result(2.0)])
    assert merged.num_compared == 0
    assert (merged.greedy_agreement, merged.value_error, merged.value_scale) == (None, None, None)
