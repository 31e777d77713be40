"""The student's weights on their way from the learner to the env runners, and newer versions of the
teacher, which go the same way where a run refreshes it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from common.policies.policy import Policy


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PolicyWeights:
    """One version of the student's weights."""

    version: int
    """Grows by one with every publication; 0 is the student before its first step."""
    learner_steps: int
    """Gradient steps behind these weights."""
    env_steps: int
    """Transitions that the learner had received: what schedules over env steps go by."""
    arrays: Mapping[str, npt.NDArray[np.float32]]

    def state(self) -> dict[str, torch.Tensor]:
        """Return the weights as a state dict (copies: the arrays may be read-only)."""
        return {name: torch.tensor(array) for name, array in self.arrays.items()}


def weights_of(
    network: torch.nn.Module, *, version: int, learner_steps: int, env_steps: int
) -> PolicyWeights:
    """Copy the weights out of a network."""
    return PolicyWeights(
        version=version,
        learner_steps=learner_steps,
        env_steps=env_steps,
        arrays={
            name: tensor.detach().to("cpu", torch.float32).numpy().copy()
            for name, tensor in network.state_dict().items()
        },
    )


class WeightStore:
    """Holds the newest weights and the newest teacher; a version that is not newer is refused."""

    def __init__(self) -> None:
        self._newest: PolicyWeights | None = None
        self._teacher: Policy | None = None

    @property
    def version(self) -> int:
        """Newest version, −1 before the first."""
        return -1 if self._newest is None else self._newest.version

    def publish(self, weights: PolicyWeights) -> bool:
        """Keep `weights` if they are newer; return whether they were."""
        if weights.version <= self.version:
            return False
        self._newest = weights
        return True

    def pull_if_newer(self, version: int) -> PolicyWeights | None:
        """Return the newest weights if their version is above `version`."""
        return self._newest if self.version > version else None

    def publish_teacher(self, teacher: Policy) -> bool:
        """Keep a version of the teacher if it is newer; return whether it was."""
        former = self._teacher
        if former is not None and teacher.spec.teacher_version <= former.spec.teacher_version:
            return False
        self._teacher = teacher
        return True

    def teacher_if_newer(self, version: int) -> Policy | None:
        """Return the newest teacher that was published if its version is above `version`."""
        teacher = self._teacher
        return teacher if teacher is not None and teacher.spec.teacher_version > version else None
