"""Runs whose teacher improves while they go on, in one process and on Ray.

Another program is played by the test: it writes the next version once the run has said what became
of the one before, and has learnt from what it took.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.table import Table

from cluster.board import RunStatus, Wanted
from cluster.control import Control
from cluster.controller import Controller, Outcome
from cluster.local_backend import LocalBackend
from cluster.prepare import prepare
from cluster.recipe.config import RunConfig
from cluster.run_directory import RunDirectory, create_run_directory, kept_teacher
from cluster.session import Backend
from common.policies.policy import Policy, load_policy, save_policy
from learners.batch import DistillBatch
from learners.window import TransitionWindow
from tests.cartpole import load_config
from tests.rising import mean_return, rising_teachers

ONLINE = (
    "teacher.path=versions/policy-0.safetensors",
    "teacher.refresh={path = 'versions', interval_s = 0.05, num_episodes = 12}",
    "evaluation.num_episodes=20",
)
TAKEN = re.compile(r": version (\d) of the teacher$")
"""How the line ends that says that a version was taken."""


class Trainer:
    """Writes versions, and hears as the run's reporter what becomes of them.

    `steps` are what it does after the baseline, and each after the run took a version or refused
    one and then took a learner step or more.
    """

    def __init__(self, folder: Path, *steps: Callable[["Trainer"], None]) -> None:
        self.folder = folder / "versions"
        self.said: list[str] = []
        self._steps = list(steps)
        self._due = False
        self._learner_steps = 0.0
        self.control: Control | None = None
        self.good_enough: Callable[[dict[str, float]], bool] = lambda figures: False
        self.write(rising_teachers()[0], 0)

    def write(self, policy: Policy, number: int) -> None:
        save_policy(policy, self.folder / f"policy-{number}.safetensors")

    def damage(self, number: int) -> None:
        self.write(rising_teachers()[0], number)
        place = self.folder / f"policy-{number}.safetensors"
        place.write_bytes(place.read_bytes()[:-100])

    def say(self, text: str) -> None:
        self.said.append(text)
        self._due |= text.startswith(("starting env runners", "policy-"))

    def show(self, table: Table) -> None:
        pass

    def progress(self, phase: str, fraction: float, text: str) -> None:
        """Do what is due, and have the run stopped once its figures are good enough."""
        if self.control is None:
            return
        figures = self.control.status.figures
        learner_steps = figures.get("learner/steps", 0.0)
        if self._due and self._steps and learner_steps > self._learner_steps:
            self._due, self._learner_steps = False, learner_steps
            self._steps.pop(0)(self)
        if self.good_enough(figures):
            self.control.want(Wanted(stop=True))

    def close(self) -> None:
        pass


def better(index: int, number: int) -> Callable[[Trainer], None]:
    return lambda trainer: trainer.write(rising_teachers()[index], number)


def better_beside_a_damaged_one(trainer: Trainer) -> None:
    trainer.damage(5)
    trainer.write(rising_teachers()[2], 4)


def loaded(folder: Path, *overrides: str) -> RunConfig:
    """Return the recipe; paths in overrides are relative to the working directory."""
    given = [text.replace("versions", f"{folder}/versions", 1) for text in ONLINE]
    return load_config(folder, *given, *overrides)


def run(
    directory: RunDirectory, config: RunConfig, backend: Backend, trainer: Trainer
) -> tuple[Outcome, Control]:
    teacher = kept_teacher(directory, config)
    preparation = prepare(config, num_cpus=2, num_gpus=0, teacher=teacher)
    status = RunStatus(name=config.name, run_dir=directory.path.absolute, task="CartPole-v1")
    control = trainer.control = Control(status)
    return Controller(preparation, directory, backend, trainer, control).run(), control


def metrics_of(directory: RunDirectory) -> list[dict[str, float]]:
    return [json.loads(line) for line in directory.metrics.read_text().splitlines()]


class Batches:
    """Looks at every batch that anything learns from."""

    def __init__(self) -> None:
        self.seen = 0
        self.compared = 0
        self.by_version: dict[int, int] = {}

    def look(self, batch: DistillBatch, version: int) -> None:
        """Every label must be of the present version; of some, by asking that teacher itself."""
        assert batch.teacher_version is not None
        versions = batch.teacher_version.unique().tolist()
        assert versions == [version]
        self.seen += 1
        self.by_version[version] = self.by_version.get(version, 0) + 1
        if self.by_version[version] % 10 == 1:
            self.compared += 1
            teacher = rising_teachers()[version]
            with torch.no_grad():
                logits = teacher.network(batch.observations).dist_inputs
            shifted = (logits - logits.max(-1, keepdim=True).values).numpy()
            given = batch.teacher_dist_inputs.numpy()
            np.testing.assert_allclose(given, shifted, rtol=2e-3, atol=2e-3)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> Iterator[Batches]:
    found = Batches()
    gather = TransitionWindow.gather

    def look(window: TransitionWindow, rows: torch.Tensor) -> DistillBatch:
        batch = gather(window, rows)
        assert window._relabeller is not None
        found.look(batch, window._relabeller.version)
        return batch

    monkeypatch.setattr(TransitionWindow, "gather", look)
    yield found
    assert found.seen > 0
    assert found.compared > 0


def assert_learnt_from_the_last(
    outcome: Outcome, control: Control, directory: RunDirectory, trainer: Trainer
) -> None:
    """The run took versions 1, 2, 3, and its student is as good as the third."""
    taken = [found[1] for line in trainer.said if (found := TAKEN.search(line))]
    assert taken == ["1", "2", "3"], trainer.said
    metrics = metrics_of(directory)
    versions = [line["teacher/version"] for line in metrics]
    assert versions == sorted(versions)
    assert versions[-1] == 3
    assert {line["replay/unknown_labels"] for line in metrics} == {0}
    assert metrics[-1]["replay/relabelled"] > 0
    assert metrics[0]["teacher/return"] < metrics[-1]["teacher/return"]
    assert outcome.evaluation is not None
    scores: dict[str, Any] = outcome.evaluation["tasks"]["CartPole-v1"]
    assert outcome.evaluation["teacher_version"] == 3
    assert scores["teacher"]["mean_return"] == 500
    assert scores["share_of_teacher"] >= 0.95, scores
    assert control.status.teacher is not None
    assert control.status.teacher.startswith("teacher: version 3 (policy-")
    kept = load_policy(directory.teachers / "version-000003.safetensors")
    assert kept.spec.teacher_version == 3


@pytest.mark.slow
def test_a_student_of_a_teacher_that_improves_three_times_ends_like_the_last(
    tmp_path: Path, batches: Batches
) -> None:
    """Beside the better versions lie a worse one and a damaged one, which nobody learns from."""
    trainer = Trainer(
        tmp_path,
        better(1, 1),
        better(0, 2),  # worse than what is there
        better_beside_a_damaged_one,
        better(3, 10),  # after 4, as numbers go
    )
    config = loaded(tmp_path, "total_env_steps=60_000")
    directory = create_run_directory(tmp_path / "run", config)
    outcome, control = run(directory, config, LocalBackend(), trainer)
    assert_learnt_from_the_last(outcome, control, directory, trainer)
    assert sum("no better than" in line for line in trainer.said) == 1
    assert set(batches.by_version) == {0, 1, 2, 3}


@pytest.mark.ray
@pytest.mark.parametrize("placement", ["runner", "shared"])
def test_on_ray_every_version_reaches_learner_env_runners_and_shared_inference(
    placement: str, tmp_path: Path, ray_backend: Backend
) -> None:
    """The run is stopped once its student has had time with the last version."""
    trainer = Trainer(tmp_path, better(1, 1), better(2, 2), better(3, 3))
    config = loaded(
        tmp_path,
        "total_env_steps=10_000_000",
        "behavior.name=student",  # whose share is known soon
        "actors.num_cpus_per_runner=0.4",
        f"actors.inference.placement={placement}",
    )
    directory = create_run_directory(tmp_path / "run", config)
    deadline = time.monotonic() + 300

    def good_enough(figures: dict[str, float]) -> bool:
        assert time.monotonic() < deadline, (figures, trainer.said)
        return figures["teacher/version"] == 3 and figures.get("student/share_of_teacher", 0) > 0.98

    trainer.good_enough = good_enough
    outcome, control = run(directory, config, ray_backend, trainer)
    assert not outcome.finished  # it was stopped
    figures = control.status.figures
    assert (figures["teacher/version"], figures["replay/unknown_labels"]) == (3, 0)
    assert figures["replay/relabelled"] > 0
    student = load_policy(directory.student)
    last = rising_teachers()[3]
    played = mean_return(student, num_episodes=32), mean_return(last, num_episodes=32)
    assert played[0] >= 0.95 * played[1], (played, trainer.said)
    again = kept_teacher(directory, config)
    assert again is not None
    assert again.spec.teacher_version == 3
