"""Scores on sequences that were held out: what a student can be told without playing.

The labels are the dataset's. Notation: as in `learners.objectives.base`.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from common.policies.actions import mean_actions
from common.policies.inference import InferencePolicy, Observations
from common.policies.policy import Policy
from common.policies.remembering import RememberingPolicy
from common.policies.spec import CONTINUOUS, DistKind
from common.trajectory import TrajectoryChunk
from learners.objectives import Moment, ObjectiveConfig
from learners.objectives.schedule import present
from learners.objectives.softmax import DEFAULT_TEMPERATURE


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Likeness:
    """How like its teacher a student is; of discrete actions or of a Box's."""

    greedy_agreement: float | None = None
    """Share of the transitions in which both have the same greedy action."""
    kl: float | None = None
    """Mean KL(p‖π) of discrete actions."""
    teacher_temperature: float | None = None
    """τ at which p is read."""
    student_temperature: float | None = None
    """τ at which π is read."""
    action_error: float | None = None
    """Mean absolute difference of their mean actions within a Box, in halves of its range."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeldOut:
    """How like its teacher a student is where it has not learned."""

    transitions: int
    sequences: int
    likeness: Likeness
    observations: Observations
    """[M, *shape], the first of them, for checks of exports."""

    def as_json(self) -> dict[str, float | None]:
        """Return the figures; None where one means nothing for these actions."""
        counts = {"transitions": self.transitions, "sequences": self.sequences}
        return counts | asdict(self.likeness)


def score_held_out(
    student: Policy,
    chunks: Iterable[TrajectoryChunk],
    *,
    teacher_dist: DistKind,
    objective: ObjectiveConfig,
    num_observations: int,
) -> HeldOut:
    """Compare a student with its teacher's labels; a memory starts empty with every chunk.

    Args:
        student: in float32 on the CPU.
        chunks: with labels.
        teacher_dist: what these are.
        objective: of the run, whose temperatures are those of the KL.
        num_observations: to keep.
    """
    policy = InferencePolicy(student)
    own: list[npt.NDArray[np.float32]] = []
    theirs: list[npt.NDArray[np.float32]] = []
    kept: list[Observations] = []
    sequences = 0
    for chunk in chunks:
        num_steps, num_envs = chunk.valid.shape
        sequences += num_envs
        player = RememberingPolicy(policy, num_envs)
        for t in range(num_steps):
            observations = chunk.observations.take(np.arange(t * num_envs, (t + 1) * num_envs))
            valid = chunk.valid[t]
            own.append(player(observations).dist_inputs[valid])
            theirs.append(chunk.labels[t, valid].astype(np.float32))
            player.forget(~valid)  # whose next row starts an episode
            if (lacking := num_observations - sum(map(len, kept))) > 0:
                kept.append(observations[valid][:lacking])
    return HeldOut(
        transitions=sum(map(len, own)),
        sequences=sequences,
        likeness=_likeness(
            np.concatenate(own), np.concatenate(theirs), student.spec.dist, teacher_dist, objective
        ),
        observations=np.concatenate(kept),
    )


def _likeness(
    own: npt.NDArray[np.float32],
    theirs: npt.NDArray[np.float32],
    student_dist: DistKind,
    teacher_dist: DistKind,
    objective: ObjectiveConfig,
) -> Likeness:
    """Compare the outputs of student and teacher, [M, width] each."""
    if teacher_dist in CONTINUOUS:
        error = mean_actions(student_dist, own) - mean_actions(teacher_dist, theirs)
        return Likeness(action_error=float(np.abs(error).mean()))
    of_teacher, of_student = kl_temperatures(objective, teacher_dist, student_dist)
    log_p, log_pi = _log_softmax(theirs / of_teacher), _log_softmax(own / of_student)
    return Likeness(
        greedy_agreement=float((own.argmax(-1) == theirs.argmax(-1)).mean()),
        kl=float((np.exp(log_p) * (log_p - log_pi)).sum(-1).mean()),
        teacher_temperature=of_teacher,
        student_temperature=of_student,
    )


def kl_temperatures(
    objective: ObjectiveConfig, teacher_dist: DistKind, student_dist: DistKind
) -> tuple[float, float]:
    """Return the temperatures of teacher and student: the objective's, or where it has no `kl`,
    those that would be its defaults, with a Q-student read as its teacher is. What has a schedule
    is as it is in the end."""
    default = DEFAULT_TEMPERATURE[teacher_dist]
    if (kl := objective.at(Moment(progress=1.0, share_of_teacher=0.0)).kl) is None:
        return default, default if student_dist == "q_values" else 1.0
    of_teacher = default if kl.temperature is None else present(kl.temperature)
    return of_teacher, present(kl.student_temperature)


def _log_softmax(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    shifted = values.astype(np.float64) - values.max(-1, keepdims=True)
    found: npt.NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return found
