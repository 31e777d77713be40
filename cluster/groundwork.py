"""What a run finds out before it distils, and keeps for the next start of the same run.

Teacher and random policy play the baseline, and everything that the recipe leaves `auto` is
resolved on the states that they saw; in a run from a dataset, on states of that. It takes a minute
or more, so it is written into the run directory and taken from there where recipe, teacher and
processor are still the same.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from actors.evaluator import EvaluationResult
from cluster.evaluation import play_random, play_teacher
from cluster.offline import some_observations, with_plain_readers
from cluster.prepare import Preparation, new_student
from cluster.progress import Reporter
from cluster.recipe.config import RunConfig
from cluster.run_directory import RunDirectory, write_json
from cluster.session import Backend
from cluster.telemetry import TaskReturns
from common.errors import StorageError
from common.measured import processor
from common.policies.policy import Policy, policy_to_bytes
from learners.objectives.temperature import resolve_temperature

FREE_TO_CHANGE = frozenset({"name", "total_env_steps", "stop"})
"""Of the recipe: nothing here depends on them."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Groundwork:
    """Baseline scores, and the recipe with nothing left `auto`.

    A run from a dataset plays nothing before its end, and has no scores here.
    """

    random: EvaluationResult | None
    teacher: EvaluationResult | None
    config: RunConfig
    parts: tuple["Groundwork", ...] = ()
    """Of several tasks, one a task; `random` and `teacher` are only theirs then."""

    @property
    def teacher_return(self) -> float | None:
        """The teacher's mean return."""
        return None if self.teacher is None else mean_return(self.teacher)

    @property
    def random_return(self) -> float | None:
        """The random policy's mean return."""
        return None if self.random is None else mean_return(self.random)

    def resolved(self, preparation: Preparation) -> Preparation:
        """Return the same with nothing left `auto`."""
        return preparation.with_config(self.config, *(part.config for part in self.parts))

    def task_returns(self) -> tuple[TaskReturns, ...]:
        """Return what was measured of every task, where there are several."""
        return tuple(
            TaskReturns(part.config.task_name, part.teacher_return, part.random_return)
            for part in self.parts
        )


def lay_groundwork(
    preparation: Preparation,
    directory: RunDirectory,
    backend: Backend,
    teacher: Policy,
    reporter: Reporter,
) -> Groundwork:
    """Take what an earlier start of this run found out, or find it out and keep it."""
    if preparation.parts:
        return _lay_parts(preparation, directory, backend, teacher, reporter)
    config = preparation.config
    about = _about(config, teacher)
    if (kept := _read(directory, about, config)) is not None:
        if kept.teacher is not None and kept.random is not None:
            reporter.say(
                f"going on from the baseline of the last start: teacher "
                f"{mean_return(kept.teacher):.1f}, random {mean_return(kept.random):.1f}"
            )
        return kept
    random = baseline = None
    if preparation.dataset is not None:
        observations = some_observations(config, preparation.dataset)
        config = with_plain_readers(config)
    else:
        reporter.say(f"teacher and a random policy play {config.evaluation.num_episodes} episodes")
        random = play_random(config, backend)
        baseline = play_teacher(config, backend, teacher)
        observations = baseline.observations
        reporter.say(
            f"teacher {mean_return(baseline):.1f} ({teacher.spec.name}, "
            f"{teacher.num_parameters:,} parameters), random {mean_return(random):.1f}"
        )
    objective = resolve_temperature(config.objective, teacher, observations, say=reporter.say)
    resolved = config.model_copy(update={"objective": objective})
    student = new_student(resolved, preparation.environment, teacher.spec)
    resolved, found = backend.resolve_compute(resolved, teacher, student, observations)
    for line in found:
        reporter.say(line)
    write_json(
        directory.groundwork,
        {
            "about": about,
            "random": _as_json(random),
            "teacher": _as_json(baseline),
            "resolved": {key: resolved.model_dump(mode="json")[key] for key in _RESOLVED},
        },
    )
    return Groundwork(random=random, teacher=baseline, config=resolved)


def _lay_parts(
    preparation: Preparation,
    directory: RunDirectory,
    backend: Backend,
    teacher: Policy,
    reporter: Reporter,
) -> Groundwork:
    """Do the same for every task; how the learner computes is what the first one found."""
    parts = []
    for part, own in zip(preparation.parts, preparation.teachers(teacher), strict=True):
        name = part.config.task_name
        reporter.say(f"task {name}:")
        parts.append(lay_groundwork(part, directory.of_task(name), backend, own, reporter))
    config = preparation.config.model_copy(update={"learner": parts[0].config.learner})
    return Groundwork(random=None, teacher=None, config=config, parts=tuple(parts))


def mean_return(result: EvaluationResult) -> float:
    """Return the mean over the episodes."""
    return sum(result.returns) / len(result.returns)


_RESOLVED = ("objective", "actors", "learner")


def _about(config: RunConfig, teacher: Policy) -> str:
    """Return a digest of everything that the groundwork depends on."""
    spec, weights = policy_to_bytes(teacher)
    recipe = config.model_dump(mode="json", exclude=set(FREE_TO_CHANGE))
    digest = hashlib.sha256(weights)
    digest.update(json.dumps([processor(), spec, recipe], sort_keys=True).encode())
    return digest.hexdigest()


def _read(directory: RunDirectory, about: str, config: RunConfig) -> Groundwork | None:
    """Return what was kept, or None where it is of something else, or unreadable."""
    try:
        kept = json.loads(directory.groundwork.read_text())
        if kept["about"] != about:
            return None
        return Groundwork(
            random=_from_json(kept["random"]),
            teacher=_from_json(kept["teacher"]),
            config=RunConfig.model_validate(config.model_dump(mode="json") | kept["resolved"]),
        )
    except (StorageError, ValueError, LookupError, TypeError):
        return None  # it is only found out once more


def _as_json(result: EvaluationResult | None) -> dict[str, Any] | None:
    """Return a result of playing without comparison, without the states."""
    return None if result is None else {"returns": result.returns, "lengths": result.lengths}


def _from_json(tree: dict[str, Any] | None) -> EvaluationResult | None:
    if tree is None:
        return None
    return EvaluationResult(
        returns=tuple(tree["returns"]),
        lengths=tuple(tree["lengths"]),
        num_compared=0,
        greedy_agreement=None,
        value_error=None,
        value_scale=None,
        observations=np.empty(0, np.float32),
    )
