"""What every vector environment is to the env runner and the evaluator."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from common.policies.box import BoxActions
from common.policies.spec import ObservationSpec

Observations = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentSpec:
    """What policies must fit."""

    observation: ObservationSpec
    num_actions: int | None
    """Of discrete actions."""
    action_meanings: tuple[str, ...] | None
    frame_stack: int | None
    """Frames in a stack, where observations are stacked frames."""
    action_box: BoxActions | None = None
    """Of actions that are vectors."""
    teacher_observation: ObservationSpec | None = None
    """What the teacher sees, where that is not what the student sees, `observation`."""

    @property
    def seen_by_teacher(self) -> ObservationSpec:
        """What the teacher sees."""
        return self.teacher_observation or self.observation


class StepResult(NamedTuple):
    """What N env copies answer to N actions; arrays are new at every step."""

    observations: Observations
    """[N, *shape]."""
    rewards: npt.NDArray[np.float32]
    """[N] raw, never clipped."""
    terminated: npt.NDArray[np.bool_]
    """[N]."""
    truncated: npt.NDArray[np.bool_]
    """[N]."""


class VectorEnvironment(ABC):
    """N env copies with Gymnasium's NEXT_STEP autoreset: the step after an end only resets."""

    spec: EnvironmentSpec
    num_envs: int
    teacher_observations: Observations | None = None
    """[N, *shape] of the present states as the teacher sees them, a new array at every step, where
    that is not what `reset` and `step` return."""

    @abstractmethod
    def reset(self, seed: int) -> Observations:
        """Reset all copies with seeds that follow from `seed`; return [N, *shape]."""

    @abstractmethod
    def step(self, actions: Any) -> StepResult:
        """Take actions in all copies: [N] int64, or [N, D] float32 in units of the Box."""

    @abstractmethod
    def close(self) -> None:
        """Give back what the copies hold."""
