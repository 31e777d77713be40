"""The supervisor of shared teachers against actors that do as they are told.

The same on a real cluster, with a process killed, is in `test_runs.py`.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, RayTaskError

from actors.shared_inference import InferenceStats
from cluster.on_ray import teacher_supervisor
from cluster.on_ray.teacher_supervisor import SharedTeachers
from common.errors import ResourceError, RunFailedError
from common.policies.policy import policy_to_bytes
from tests.cartpole import cartpole_teacher, load_config

PENDING = object()
"""A call that is not answered."""
TEACHER = policy_to_bytes(cartpole_teacher())


def task_error(cause: Exception) -> RayTaskError:
    error = RayTaskError("load", "Traceback\n  line\n", cause, proctitle="p", pid=1, ip="10.0.0.1")
    return error.as_instanceof_cause()


class Actor:
    """A shared inference actor. A call is a list of one function that tells how it stands."""

    def __init__(self, recipe: str) -> None:
        self.recipe = recipe
        self.life = 0
        self.ready = False
        self.broken: Exception | None = None
        """What every call raises."""
        self.away = False
        """Whether calls are answered by its next life only."""
        self.loaded: list[Any] = []
        self.killed = False
        self.stats = SimpleNamespace(remote=lambda: [self._stats])
        self.load = SimpleNamespace(remote=self._load)

    def die(self) -> None:
        """Start again, without the teacher."""
        self.life += 1
        self.ready = False

    def _stats(self) -> Any:
        if self.away or self.broken is not None:
            return self.broken or PENDING
        return InferenceStats(
            life=str(self.life), ready=self.ready, pid=1, num_rows=0, num_batches=0
        )

    def _load(self, teacher: Any) -> list[Any]:
        self.loaded.append(teacher)
        self.ready = not self.away and self.broken is None
        return [lambda: PENDING if self.away else self.broken]


class Ray:
    """What `cluster.on_ray.teacher_supervisor` uses of Ray."""

    def __init__(self) -> None:
        self.made: list[Actor] = []
        self.options: list[dict[str, Any]] = []
        self.actors = SimpleNamespace(options=self._options)

    def wait(self, calls: list[Any], *, num_returns: int, timeout: float) -> tuple[Any, Any]:
        ready = [call for call in calls if call[0]() is not PENDING][:num_returns]
        return ready, [call for call in calls if call not in ready]

    def get(self, call: Any) -> Any:
        answer = call[0]()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def kill(self, actor: Actor) -> None:
        actor.killed = True

    def _options(self, **options: Any) -> Any:
        self.options.append(options)
        return SimpleNamespace(remote=self._make)

    def _make(self, recipe: str) -> Actor:
        self.made.append(Actor(recipe))
        return self.made[-1]


@pytest.fixture
def fake_ray(monkeypatch: pytest.MonkeyPatch) -> Ray:
    fake = Ray()
    monkeypatch.setattr(teacher_supervisor, "ray", fake)
    monkeypatch.setattr(teacher_supervisor, "RAY_SHARED_INFERENCE", fake.actors)
    return fake


def teachers(folder: Path, *overrides: str, name: str = "shared") -> SharedTeachers:
    config = load_config(folder, f"actors.inference.placement={name}", *overrides)
    return SharedTeachers(
        config, cartpole_teacher().spec, TEACHER, place=lambda index: f"place {index}"
    )


@pytest.mark.parametrize("name", ["runner", "at_sampling"])
def test_where_the_teacher_is_elsewhere_there_is_nothing(
    name: str, tmp_path: Path, fake_ray: Ray
) -> None:
    none = teachers(tmp_path, name=name)
    none.wait_until_ready(0.0)
    assert (none.poll(), none.restarts, none.of_runner(0)) == ((), 0, None)
    none.kill()
    assert fake_ray.made == []


def test_actors_start_with_the_recipe_alone_and_get_the_teacher_then(
    tmp_path: Path, fake_ray: Ray
) -> None:
    shared = teachers(
        tmp_path,
        "actors.num_env_runners=3",
        "actors.inference.num_actors=2",
        "actors.inference.num_cpus=0.25",
        "actors.inference.num_gpus=0.5",
        "actors.max_restarts=4",
    )
    reserved = {"num_cpus": 0.25, "num_gpus": 0.5, "max_restarts": 4}
    assert fake_ray.options == [
        reserved | {"scheduling_strategy": place} for place in ("place 0", "place 1")
    ]
    shared.wait_until_ready(5.0)
    assert [actor.loaded for actor in fake_ray.made] == [[TEACHER], [TEACHER]]
    assert all(actor.ready for actor in fake_ray.made)
    assert len(shared.poll()) == 2


def test_env_runners_are_shared_out_among_the_actors(tmp_path: Path, fake_ray: Ray) -> None:
    shared = teachers(tmp_path, "actors.num_env_runners=3", "actors.inference.num_actors=2")
    asked = [shared.of_runner(index) for index in range(3)]
    assert all(teacher is not None for teacher in asked)
    assert [teacher.actor for teacher in asked if teacher] == [*fake_ray.made, fake_ray.made[0]]
    assert {teacher.spec.name for teacher in asked if teacher} == {"feedback"}


def test_a_new_life_gets_the_teacher_again_and_is_counted_once(
    tmp_path: Path, fake_ray: Ray
) -> None:
    shared = teachers(tmp_path)
    shared.wait_until_ready(5.0)
    (actor,) = fake_ray.made
    actor.away = True
    assert [stats.life for stats in shared.poll()] == ["0"]  # the last report, without waiting
    actor.die()
    actor.away = False
    for _ in range(4):
        shared.poll()
    assert (shared.restarts, actor.loaded) == (1, [TEACHER, TEACHER])
    assert [(stats.life, stats.ready) for stats in shared.poll()] == [("1", True)]


def test_an_actor_that_dies_while_it_gets_the_teacher_gets_it_again(
    tmp_path: Path, fake_ray: Ray
) -> None:
    shared = teachers(tmp_path)
    shared.poll()
    (actor,) = fake_ray.made
    assert actor.loaded == [TEACHER]
    actor.die()
    shared.wait_until_ready(5.0)
    assert actor.loaded == [TEACHER, TEACHER]
    assert shared.restarts == 1


def test_a_teacher_that_is_on_its_way_is_not_sent_again(tmp_path: Path, fake_ray: Ray) -> None:
    shared = teachers(tmp_path)
    (actor,) = fake_ray.made
    actor.load = SimpleNamespace(remote=lambda teacher: actor.loaded.append(teacher) or [pending])

    def pending() -> Any:
        return PENDING

    for _ in range(3):
        assert [stats.ready for stats in shared.poll()] == [False]
    assert actor.loaded == [TEACHER]


@pytest.mark.parametrize("when", ["at the start", "later"])
def test_one_that_is_dead_for_good_ends_the_run_in_one_line(
    when: str, tmp_path: Path, fake_ray: Ray
) -> None:
    shared = teachers(tmp_path)
    if when == "later":
        shared.wait_until_ready(5.0)
    fake_ray.made[0].broken = ActorDiedError()
    with pytest.raises(RunFailedError, match=r"^shared inference failed: ") as caught:
        _ = shared.poll() if when == "later" else shared.wait_until_ready(5.0)
    assert "\n" not in str(caught.value)


def test_one_that_cannot_take_the_teacher_ends_the_run_in_one_line(
    tmp_path: Path, fake_ray: Ray
) -> None:
    shared = teachers(tmp_path)
    (actor,) = fake_ray.made
    stats = actor.stats.remote()
    actor.stats = SimpleNamespace(remote=lambda: stats)
    actor.load = SimpleNamespace(remote=lambda teacher: [lambda: out_of_memory])
    out_of_memory = task_error(RuntimeError("out of memory"))
    with pytest.raises(RunFailedError) as caught:
        shared.wait_until_ready(5.0)
    assert str(caught.value) == "shared inference failed: RuntimeError: out of memory"


def test_a_cluster_without_room_is_told_of(tmp_path: Path, fake_ray: Ray) -> None:
    shared = teachers(tmp_path)
    fake_ray.made[0].away = True
    with pytest.raises(ResourceError, match=r"did not start within 0 s: .* actors.inference"):
        shared.wait_until_ready(0.0)


def test_kill_ends_all(tmp_path: Path, fake_ray: Ray) -> None:
    shared = teachers(tmp_path, "actors.num_env_runners=2", "actors.inference.num_actors=2")
    shared.kill()
    assert [actor.killed for actor in fake_ray.made] == [True, True]
