"""A controller on a backend that does as it is told, and what is around it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.table import Table

from actors.evaluator import EvaluationResult
from cluster.board import RunStatus
from cluster.control import Control
from cluster.controller import Controller, Outcome
from cluster.prepare import Preparation, prepare
from cluster.recipe.config import RunConfig
from cluster.run_directory import RunDirectory, create_run_directory
from cluster.session import EvaluationJob, Export, Session, Snapshot
from common.errors import RunFailedError
from common.policies.inference import Observations
from common.policies.policy import Policy, new_policy
from common.storage import Named
from tests.cartpole import cartpole_teacher, load_config
from tests.cluster.snapshots import BEGUN

STATS = replace(BEGUN, metrics={"loss": 0.5})
STUDENT = new_policy(cartpole_teacher().spec.model_copy(update={"name": "student"}), seed=5)


class FakeReporter:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.open = False

    def say(self, text: str) -> None:
        self.said.append(text)

    def show(self, table: Table) -> None:
        self.open = False

    def progress(self, phase: str, fraction: float, text: str) -> None:
        self.open = True

    def close(self) -> None:
        self.open = False


class FakeSession:
    """Finishes at its `num_polls`-th poll; `act` is called at each."""

    def __init__(self, act: Callable[[], None], num_polls: int) -> None:
        self.act = act
        self.num_polls = num_polls
        self.polls = 0
        self.paused = False
        self.calls: list[str] = []
        self.unsaved: str | None = None

    def poll(self) -> Snapshot:
        self.polls += 1
        self.act()
        finished = self.polls == self.num_polls
        return Snapshot(
            trainer=STATS,
            collectors=(),
            shards=(),
            restarts={"learner": 1},
            finished=finished,
            env_runners_wanted=2,
            paused=self.paused,
            waiting_for="1 CPU",
            lost=0,
        )

    def scale(self, num_env_runners: int) -> None:
        self.calls.append(f"scale {num_env_runners}")

    def pause(self, paused: bool) -> None:
        self.paused = paused
        self.calls.append(f"pause {paused}")

    def tell_share_of_teacher(self, share: float) -> None:
        self.calls.append(f"share {share}")

    def finish(self) -> Policy:
        self.calls.append("finish")
        return STUDENT

    def abort(self) -> None:
        self.calls.append("abort")


class FakeBackend:
    """Teacher and student play 100, a random policy 0."""

    is_local = True
    student_plays = 100.0

    def __init__(self, session: FakeSession | None) -> None:
        self.session = session
        self.played: list[str | None] = []
        self.exported: list[Snapshot] = []

    def evaluate(self, config: RunConfig, job: EvaluationJob) -> EvaluationResult:
        self.played.append(None if job.policy is None else job.policy.spec.name)
        value = 0.0
        if job.policy is not None:
            value = 100.0 if job.reference is None else self.student_plays
        return EvaluationResult(
            returns=(value,) * job.num_episodes,
            lengths=(1,) * job.num_episodes,
            num_compared=0 if job.reference is None else 9,
            greedy_agreement=None if job.reference is None else 1.0,
            value_error=None,
            value_scale=None,
            observations=np.eye(4, dtype=np.float32),
        )

    def resolve_compute(
        self, config: RunConfig, teacher: Policy, student: Policy, observations: Observations
    ) -> tuple[RunConfig, tuple[str, ...]]:
        return config, ("found the fastest",)

    def distil(self, preparation: Preparation, teacher: Policy, checkpoints: Named) -> Session:
        if self.session is None:
            raise RunFailedError("nothing starts")
        return self.session

    def exporter(self, config: RunConfig) -> Export:
        return lambda metrics, snapshot: self.exported.append(snapshot)

    def close(self) -> None:
        pass


class Bench:
    """A controller and what is around it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reporter = FakeReporter()
        self.directory = RunDirectory(folder / "run")
        self.control = Control(RunStatus(name="balance", run_dir="run", task="CartPole-v1"))

    def run(self, session: FakeSession | None, *overrides: str) -> Outcome:
        config = load_config(self.folder, *overrides)
        preparation = prepare(config, num_cpus=2, num_gpus=0)
        if not self.directory.recipe.exists():
            create_run_directory(self.directory.path, config)
        self.backend = backend = FakeBackend(session)
        return Controller(preparation, self.directory, backend, self.reporter, self.control).run()

    def assert_closed(self) -> None:
        assert not self.reporter.open
