"""Scores on sequences that were held out: what a student can be told without playing.

The labels are the dataset's. Notation: as in `learners.objectives.base`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from common.policies.inference import InferencePolicy, Observations
from common.policies.policy import Policy
from common.policies.spec import DistKind
from common.trajectory import TrajectoryChunk
from learners.objectives import ObjectiveConfig
from learners.objectives.kl import DEFAULT_TEMPERATURE

BATCH = 256


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeldOut:
    """How like its teacher a student is where it has not learned."""

    transitions: int
    sequences: int
    greedy_agreement: float
    """Share of the transitions in which both have the same greedy action."""
    kl: float
    """Mean KL(p‖π)."""
    teacher_temperature: float
    """τ at which p is read."""
    student_temperature: float
    """τ at which π is read."""
    observations: Observations
    """[M, *shape], the first of them, for checks of exports."""

    def as_json(self) -> dict[str, float]:
        """Return the figures."""
        names = [field.name for field in fields(self) if field.name != "observations"]
        return {name: getattr(self, name) for name in names}


def score_held_out(
    student: Policy,
    chunks: Iterable[TrajectoryChunk],
    *,
    teacher_dist: DistKind,
    objective: ObjectiveConfig,
    num_observations: int,
) -> HeldOut:
    """Compare a student with its teacher's labels.

    Args:
        student: in float32 on the CPU.
        chunks: with labels.
        teacher_dist: what these are.
        objective: of the run, whose temperatures are those of the KL.
        num_observations: to keep.
    """
    policy = InferencePolicy(student)
    of_teacher, of_student = kl_temperatures(objective, teacher_dist, student.spec.dist)
    agreed: list[npt.NDArray[np.bool_]] = []
    divergences: list[npt.NDArray[np.float64]] = []
    kept: list[Observations] = []
    sequences = 0
    for chunk in chunks:
        sequences += chunk.valid.shape[1]
        rows = np.flatnonzero(chunk.valid)
        labels = chunk.labels.reshape(chunk.valid.size, -1)
        for start in range(0, rows.size, BATCH):
            batch = rows[start : start + BATCH]
            observations = chunk.observations.take(batch)
            own, theirs = policy(observations).dist_inputs, labels[batch].astype(np.float32)
            agreed.append(own.argmax(-1) == theirs.argmax(-1))
            log_p, log_pi = _log_softmax(theirs / of_teacher), _log_softmax(own / of_student)
            divergences.append((np.exp(log_p) * (log_p - log_pi)).sum(-1))
            if (lacking := num_observations - sum(map(len, kept))) > 0:
                kept.append(observations[:lacking])
    return HeldOut(
        transitions=sum(map(len, agreed)),
        sequences=sequences,
        greedy_agreement=float(np.concatenate(agreed).mean()),
        kl=float(np.concatenate(divergences).mean()),
        teacher_temperature=of_teacher,
        student_temperature=of_student,
        observations=np.concatenate(kept),
    )


def kl_temperatures(
    objective: ObjectiveConfig, teacher_dist: DistKind, student_dist: DistKind
) -> tuple[float, float]:
    """Return the temperatures of teacher and student: the objective's, or where it has no `kl`,
    those that would be its defaults, with a Q-student read as its teacher is."""
    default = DEFAULT_TEMPERATURE[teacher_dist]
    if objective.kl is None:
        return default, default if student_dist == "q_values" else 1.0
    assert objective.kl.temperature != "auto"
    return objective.kl.temperature or default, objective.kl.student_temperature


def _log_softmax(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    shifted = values.astype(np.float64) - values.max(-1, keepdims=True)
    found: npt.NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return found
