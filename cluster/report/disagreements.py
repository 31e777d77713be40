"""Where student and teacher disagree most, among the observations that an evaluation has kept.

Of discrete actions the difference is half the summed difference of both distributions (their total
variation): 0 where they are alike, 1 where they have no action in common. Both are read at the
temperatures of the objective's KL. Of a Box it is the mean difference of their mean actions.

Found when a run is evaluated, kept in `disagreements.json`, and shown by the report.
"""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from cluster.prepare import Preparation
from cluster.report.pictures import as_png
from cluster.run_directory import RunDirectory, write_json
from cluster.scoring import Verdict
from cluster.task_scores import TaskScores
from common.errors import FileMissingError
from common.policies.actions import mean_actions
from common.policies.inference import InferencePolicy, Observations
from common.policies.policy import Policy
from common.policies.spec import CONTINUOUS, PolicySpec
from common.policies.tasks import policy_of_task
from learners.held_out import kl_temperatures
from learners.objectives import ObjectiveConfig
from learners.objectives.temperature import resolve_temperature

SHOWN = 4
"""Observations of a task."""

CANDIDATES = 300
"""Of the largest differences, among which those are chosen that do not look alike."""

SMALLEST = 0.01
"""A smaller difference is none to show."""

_BLOCK = 256
"""Observations in one forward pass."""

_ALIKE = 0.25
"""Two observations look alike whose distance is below this share of the usual one."""

Floats = npt.NDArray[np.float32]


class Example(BaseModel):
    """An observation on which both differ."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    difference: float
    teacher: tuple[float, ...]
    """[A] probabilities, or [D] mean actions in units."""
    student: tuple[float, ...]
    png: str | None = None
    """Of frames: the stack, the oldest left, as PNG in base64."""
    vector: tuple[float, ...] = ()


class TaskDisagreements(BaseModel):
    """What was found of one task."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    reason: str | None = None
    """Why nothing was looked for."""
    observations: int = 0
    """Among so many."""
    mean_difference: float = 0.0
    actions: tuple[str, ...] = ()
    continuous: bool = False
    teacher_temperature: float | None = None
    student_temperature: float | None = None
    mean: tuple[float, ...] = ()
    """Of the entries of vectors, over all observations."""
    std: tuple[float, ...] = ()
    examples: tuple[Example, ...] = ()


def keep_disagreements(
    directory: RunDirectory,
    preparation: Preparation,
    verdict: Verdict,
    teacher: Policy,
    student: Policy,
) -> None:
    """Find them in every task of an evaluation, and write them down.

    Args:
        directory: where to write; what is there of other tasks is kept.
        preparation: of the run.
        verdict: what the evaluation found.
        teacher: the run's last one.
        student: of all tasks.

    Raises:
        StorageError: they cannot be written.
    """
    found = {}
    if isinstance(verdict, TaskScores):
        teachers = preparation.teachers(teacher)
        for part, own, scores in zip(preparation.parts, teachers, verdict.tasks, strict=True):
            task = part.config.task_name
            pupil = policy_of_task(student, task)
            found[task] = _of_task(part, scores.observations, own, pupil)
    else:
        task = preparation.config.task_name
        found[task] = _of_task(preparation, verdict.observations, teacher, student)
    tasks = _kept(directory) | found
    tree = {
        task: each.model_dump(mode="json", exclude_defaults=True) for task, each in tasks.items()
    }
    write_json(directory.disagreements, {"tasks": tree})


def read_disagreements(tree: Any) -> dict[str, TaskDisagreements]:
    """Return what `disagreements.json` says by task; nothing where it says something else."""
    tasks = tree.get("tasks") if isinstance(tree, dict) else None
    try:
        return {str(k): TaskDisagreements.model_validate(v) for k, v in (tasks or {}).items()}
    except (ValidationError, AttributeError):
        return {}


def _kept(directory: RunDirectory) -> dict[str, TaskDisagreements]:
    try:
        return read_disagreements(json.loads(directory.disagreements.read_bytes()))
    except (FileMissingError, ValueError):
        return {}


def _of_task(
    preparation: Preparation, observations: Observations, teacher: Policy, student: Policy
) -> TaskDisagreements:
    if preparation.config.teacher_view is not None:
        return TaskDisagreements(
            reason="the teacher sees other frames than its student, whose frames alone were kept"
        )
    return find_disagreements(observations, teacher, student, preparation.config.objective)


def find_disagreements(
    observations: Observations, teacher: Policy, student: Policy, objective: ObjectiveConfig
) -> TaskDisagreements:
    """Ask both policies about all observations and return those on which they differ most.

    Args:
        observations: [M, *shape] of the student's play, or held out.
        teacher: in float32 on the CPU, like the student.
        student: of one task.
        objective: whose temperatures both are read at.
    """
    asked = InferencePolicy(teacher), InferencePolicy(student)
    if any(policy.memory_shape is not None for policy in asked):
        return TaskDisagreements(
            reason="a policy with a memory cannot be asked about single observations"
        )
    if not len(observations):
        return TaskDisagreements(reason="the evaluation kept no observations")
    theirs, own = (_outputs(policy, observations) for policy in asked)
    temperatures: dict[str, float] = {}
    if continuous := teacher.spec.dist in CONTINUOUS:
        theirs, own = mean_actions(teacher.spec.dist, theirs), mean_actions(student.spec.dist, own)
        differences = np.abs(theirs - own).mean(-1)
    else:
        objective = resolve_temperature(objective, teacher, observations, say=lambda text: None)
        names = ("teacher_temperature", "student_temperature")
        both = kl_temperatures(objective, teacher.spec.dist, student.spec.dist)
        temperatures = dict(zip(names, both, strict=True))
        theirs, own = _softmax(theirs / both[0]), _softmax(own / both[1])
        differences = np.abs(theirs - own).sum(-1) / 2
    vectors = observations if observations.ndim == 2 else None
    return TaskDisagreements(
        observations=len(observations),
        mean_difference=float(differences.mean()),
        actions=_action_names(student.spec, theirs.shape[-1]),
        continuous=continuous,
        **temperatures,
        mean=() if vectors is None else _rounded(vectors.mean(0)),
        std=() if vectors is None else _rounded(vectors.std(0)),
        examples=tuple(
            Example(
                difference=float(differences[row]),
                teacher=_rounded(theirs[row]),
                student=_rounded(own[row]),
                png=None if vectors is not None else as_png(observations[row]),
                vector=() if vectors is None else _rounded(vectors[row]),
            )
            for row in _chosen(observations, differences)
        ),
    )


def _outputs(policy: InferencePolicy, observations: Observations) -> Floats:
    starts = range(0, len(observations), _BLOCK)
    found = [policy(observations[start : start + _BLOCK]).dist_inputs for start in starts]
    outputs: Floats = np.concatenate(found)
    return outputs


def _softmax(values: Floats) -> Floats:
    shifted = np.exp(values - values.max(-1, keepdims=True))
    found: Floats = shifted / shifted.sum(-1, keepdims=True)
    return found


def _chosen(observations: Observations, differences: Floats) -> list[int]:
    """Return the rows to show, the largest difference first, none like another."""
    usual = _usual_distance(observations)
    chosen: list[int] = []
    for row in _in_order(differences):
        distances = (_distance(observations[row], observations[other]) for other in chosen)
        if all(distance > _ALIKE * usual for distance in distances):
            chosen.append(row)
        if len(chosen) == SHOWN:
            break
    return chosen


def _in_order(differences: Floats) -> Iterator[int]:
    for row in np.argsort(-differences, kind="stable")[:CANDIDATES].tolist():
        if differences[row] >= SMALLEST:
            yield row


def _usual_distance(observations: Observations) -> float:
    """Return the median distance of observations that have nothing to do with each other."""
    rng = np.random.default_rng(0)
    pairs = rng.integers(len(observations), size=(100, 2))
    return float(np.median([_distance(observations[a], observations[b]) for a, b in pairs]))


def _distance(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    return float(np.abs(one.astype(np.float32) - other.astype(np.float32)).mean())


def _action_names(spec: PolicySpec, width: int) -> tuple[str, ...]:
    if spec.action_meanings is not None:
        return spec.action_meanings
    return tuple(f"action {index}" for index in range(width))


def _rounded(values: npt.NDArray[Any]) -> tuple[float, ...]:
    return tuple(float(f"{value:.5g}") for value in values.tolist())
