"""A Ray whose actors do as they are told: every death and silence, without a process.

`FakeCluster` starts a `RaySession` on it. Its fixtures are in `conftest.py`.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, GetTimeoutError, RayTaskError

from actors.env_runner import EpisodeResult
from cluster.on_ray.backend import RayBackend
from cluster.on_ray.session import RaySession
from cluster.prepare import Preparation, prepare
from cluster.recipe.config import RunConfig
from common.policies.policy import new_policy, policy_to_bytes
from common.trajectory import STUDENT
from tests.cartpole import cartpole_teacher, load_config
from tests.cluster import snapshots

TRAINER = snapshots.BEGUN
EPISODE = EpisodeResult(acting_policy=STUDENT, episode_return=9.0, length=9, policy_version=1)
COLLECTOR = replace(
    snapshots.COLLECTOR, env_steps=50, chunks=1, policy_version=1, episodes=(EPISODE,)
)
SHARD = replace(snapshots.SHARD, inserted=100, sampled=200, transitions=100, num_bytes=999)
TRAINED = new_policy(cartpole_teacher().spec.model_copy(update={"name": "trained"}), seed=5)

ROOMS = {
    "pulse": ("ray", "time"),
    "backend": ("ray",),
    "connection": ("ray",),
    "env_runners": ("ray", "time", "node_of"),
    "learner": ("ray", "time", "node_of"),
    "session": ("ray", "time"),
    "shards": ("ray",),
}
"""The modules of a session on Ray, and what each of them has of Ray and of the clock."""

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


class Late:
    """An answer that comes when a test says so."""

    def __init__(self) -> None:
        self.value: Any = PENDING

    def comes(self, value: Any) -> None:
        """Answer all who asked."""
        self.value = value


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
    """What the rooms of a session use of Ray, and of the clock."""

    def __init__(self) -> None:
        self.resources = {"CPU": 2.0}
        self.initialized = True
        """Whether this process belongs to a cluster, as an actor does."""
        self.now = 1_000.0
        """Seconds on the session's clock."""
        self.patience = 0.0
        """Seconds waited in vain."""
        self.init: Callable[..., Any] = lambda **options: None

    def get(self, what: Call | Iterable[Call], timeout: float | None = None) -> Any:
        if not isinstance(what, Call):
            return [self.get(call, timeout) for call in what]
        answer = what.answer()
        answer = answer.value if isinstance(answer, Late) else answer
        if answer is PENDING:
            assert timeout is not None, "this would wait for ever"
            raise GetTimeoutError
        if isinstance(answer, Exception):
            raise answer
        return answer

    def wait(
        self, calls: list[Call], *, num_returns: int, timeout: float
    ) -> tuple[list[Call], list[Call]]:
        answers = [call.answer() for call in calls]
        there = [(a.value if isinstance(a, Late) else a) is not PENDING for a in answers]
        ready = [call for call, done in zip(calls, there, strict=True) if done][:num_returns]
        if len(ready) < num_returns:
            self.patience += timeout
        return ready, [call for call in calls if call not in ready]

    def put(self, value: Any) -> Any:
        return value

    def kill(self, actor: Actor, *, no_restart: bool = True) -> None:
        actor.killed = True
        actor.calls.append("kill" if no_restart else "restart")

    def monotonic(self) -> float:
        return self.now

    def cluster_resources(self) -> dict[str, float]:
        return self.resources

    def is_initialized(self) -> bool:
        return self.initialized

    def shutdown(self) -> None:
        pass


class FakeReservation:
    """Room for everything."""

    def __init__(self, config: RunConfig) -> None:
        self.held = False

    def wait(self) -> None:
        """Take it."""
        self.held = True

    def of_rank(self, rank: int) -> str:
        """Return where a rank of the learner goes."""
        return f"rank {rank}"

    def of_inference(self, index: int) -> str:
        """Return where a shared inference actor goes."""
        return f"inference {index}"

    def of_runner(self, index: int) -> str:
        """Return where an env runner goes."""
        return f"runner {index}"

    def release(self) -> None:
        """Give it back."""
        self.held = False


class FakeLogs:
    """Actors that log nothing."""

    name = "keeper"

    def poll(self) -> None:
        """Find nothing."""

    def close(self) -> None:
        """Find nothing."""


def patched(monkeypatch: pytest.MonkeyPatch) -> Ray:
    """Put a fake Ray and its clock in the place of the real ones."""
    fake = Ray()
    clock = SimpleNamespace(monotonic=fake.monotonic)
    stands_in = {"ray": fake, "time": clock, "node_of": lambda actor: "node"}
    for room, names in ROOMS.items():
        for name in names:
            monkeypatch.setattr(f"cluster.on_ray.{room}.{name}", stands_in[name])
    monkeypatch.setattr("cluster.on_ray.backend.wait_for_room", lambda *asked, **limits: None)
    monkeypatch.setattr("cluster.on_ray.session.Reservation", FakeReservation)
    monkeypatch.setattr("cluster.on_ray.session.LogCollector", FakeLogs)
    return fake


class FakeCluster:
    """A session on fake actors."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.learners = ActorClass(
            {
                "run": PENDING,
                "stats": TRAINER,
                "student": policy_to_bytes(TRAINED),
                "stop": None,
                "unsaved": None,
            }
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
            monkeypatch.setattr(f"cluster.on_ray.session.{name}", actors)

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


def assert_one_line(error: BaseException) -> None:
    assert "\n" not in str(error)
    assert "Traceback" not in str(error)


def stopped(*actors: Actor) -> list[bool]:
    return ["stop" in actor.calls for actor in actors]
