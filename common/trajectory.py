"""`TrajectoryChunk`: what an env runner makes and a replay shard keeps.

Legend: T = unroll length, N = env copies of a runner, A = actions, P = frame planes. Arrays are
time-major. Row t holds the observation o_t, the action a_t taken in it, and the reward and ends
that followed. With Gymnasium's NEXT_STEP autoreset the row after an episode's end holds the last
observation and an ignored action: `valid` is False there, and nothing may learn from it.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from common.frames import FrameObservations

TEACHER, STUDENT = 0, 1
"""Values of `acting_policy`."""

UNLABELLED = -1
"""`teacher_version` of a chunk that the teacher has not labelled yet."""

_ACTION_AXES = {"int32": 2, "float32": 3}
"""Of `actions`, by type."""

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]


class Life(NamedTuple):
    """An env runner from its start to its end."""

    runner: int
    incarnation: int
    """Grows each time that a runner of this number is started, over resumed runs too."""


class ChunkId(NamedTuple):
    """Who made a chunk; the same chunk sent twice has the same id."""

    runner: int
    incarnation: int
    sequence: int

    @property
    def life(self) -> Life:
        """The env runner's life that the chunk is of."""
        return Life(self.runner, self.incarnation)


@dataclass(frozen=True, slots=True, eq=False)
class VectorObservations:
    """Observations that are no stacked frames, as they are."""

    values: FloatArray
    """[T, N, D] float32."""

    @property
    def steps(self) -> tuple[int, int]:
        """(T, N)."""
        return self.values.shape[0], self.values.shape[1]

    def take(self, rows: npt.NDArray[np.intp]) -> FloatArray:
        """Return the observations [B, D] of rows [B] (row t of env copy n is t · N + n), copied."""
        values: FloatArray = self.values.reshape(-1, *self.values.shape[2:])[rows]
        return values


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrajectoryChunk:
    """T steps of N env copies with the teacher's outputs for every observation.

    Where the learner labels, chunks travel without: `teacher_version` is UNLABELLED then, and both
    labels are None.
    """

    chunk_id: ChunkId
    task_id: str
    steps_before: int
    """Transitions that the env runner's life had collected before this chunk."""
    policy_version: int
    """Version of the student's weights that acted."""
    teacher_version: int
    """Of the teacher that labelled, or UNLABELLED."""
    observations: FrameObservations | VectorObservations
    actions: npt.NDArray[np.int32] | FloatArray
    """[T, N] int32, or [T, N, D] float32 as they were drawn, in units of the Box
    (`common.policies.box`)."""
    rewards: FloatArray  # [T, N] raw, never clipped
    terminated: BoolArray  # [T, N]
    truncated: BoolArray  # [T, N]
    valid: BoolArray  # [T, N] False on autoreset rows
    acting_policy: npt.NDArray[np.uint8]  # [T, N] TEACHER or STUDENT
    behavior_log_prob: FloatArray
    """[T, N] log-probability of the action taken; of a Box's, `common.policies.actions` says."""
    teacher_dist_inputs: npt.NDArray[np.floating] | None
    """[T, N, A]: logits as float16 with their maximum shifted to 0, everything else as float32
    (a Q-value's level matters, and float16 would round one of 100 to steps of 0.06)."""
    teacher_value: FloatArray | None  # [T, N] where the teacher has a value head

    def __post_init__(self) -> None:
        steps = self.actions.shape[:2]
        if self.actions.ndim != _ACTION_AXES.get(str(self.actions.dtype)):
            raise ValueError(
                f"actions are {self.actions.dtype} of shape {self.actions.shape}, not int32 [T, N] "
                f"or float32 [T, N, D]"
            )
        if self.observations.steps != steps:
            raise ValueError(f"observations of {self.observations.steps} steps != {steps}")
        for name in ("rewards", "terminated", "truncated", "valid", "acting_policy"):
            if getattr(self, name).shape != steps:
                raise ValueError(f"{name} has shape {getattr(self, name).shape} != {steps}")
        if self.behavior_log_prob.shape != steps:
            raise ValueError(f"behavior_log_prob has shape {self.behavior_log_prob.shape}")
        self._check_labels(steps)

    def _check_labels(self, steps: tuple[int, ...]) -> None:
        labels, value = self.teacher_dist_inputs, self.teacher_value
        if (labels is None) != (self.teacher_version == UNLABELLED):
            raise ValueError(
                f"teacher_version = {self.teacher_version} of a chunk "
                f"{'without' if labels is None else 'with'} labels"
            )
        if labels is not None and labels.shape[:2] != steps:
            raise ValueError(f"teacher_dist_inputs has shape {labels.shape}")
        if value is not None and (labels is None or value.shape != steps):
            raise ValueError(f"teacher_value has shape {value.shape} != {steps}")

    @property
    def labels(self) -> npt.NDArray[np.floating]:
        """`teacher_dist_inputs` of a chunk that must have been labelled by now.

        Raises:
            ValueError: it was not.
        """
        if self.teacher_dist_inputs is None:
            raise ValueError(f"chunk {tuple(self.chunk_id)} has no labels; label it first")
        return self.teacher_dist_inputs

    @property
    def num_transitions(self) -> int:
        """Number of valid rows."""
        return int(self.valid.sum())


def labelled_chunk(
    observations: FrameObservations | VectorObservations,
    teacher_dist_inputs: npt.NDArray[np.floating],
    teacher_value: FloatArray | None = None,
) -> TrajectoryChunk:
    """Return observations with labels and nothing that was played: what a learner trains on.

    Args:
        observations: of [T, N] rows, all of them valid.
        teacher_dist_inputs: [T, N, A].
        teacher_value: [T, N] where the teacher has one.
    """
    rows = observations.steps
    no_flag, nothing = np.zeros(rows, np.bool_), np.zeros(rows, np.float32)
    return TrajectoryChunk(
        chunk_id=ChunkId(0, 0, 0),
        task_id="",
        steps_before=0,
        policy_version=0,
        teacher_version=0,
        observations=observations,
        actions=np.zeros(rows, np.int32),
        rewards=nothing,
        terminated=no_flag,
        truncated=no_flag,
        valid=~no_flag,
        acting_policy=np.full(rows, TEACHER, np.uint8),
        behavior_log_prob=nothing,
        teacher_dist_inputs=teacher_dist_inputs,
        teacher_value=teacher_value,
    )
