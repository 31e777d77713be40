"""‖q_T − q_S‖², the soft-label loss for DQN students that must keep values."""

from typing import ClassVar

import torch
from pydantic import Field

from common.networks import NetworkOutput
from common.policies.spec import DistKind
from learners.batch import DistillBatch
from learners.objectives.base import Term


class QMSE(Term):
    """Mean over actions of the squared error of the Q-values."""

    teachers: ClassVar[tuple[DistKind, ...]] = ("q_values",)
    reads_student_as: ClassVar[DistKind | None] = "q_values"

    huber_delta: float | None = Field(default=None, gt=0)
    """Where given, errors beyond it count linearly (Huber), in units of the scaled error."""
    q_scale: float = Field(default=1.0, gt=0)
    """Errors are divided by it; the teacher's Q range makes terms comparable."""

    def __call__(self, batch: DistillBatch, output: NetworkOutput) -> torch.Tensor:
        """Return the mean squared (or Huber) error of every sample, [B]."""
        error = (output.dist_inputs - batch.teacher_dist_inputs) / self.q_scale
        if self.huber_delta is None:
            return error.square().mean(-1)
        size = error.abs()
        quadratic = size.clamp(max=self.huber_delta)
        return (quadratic.square() + 2 * self.huber_delta * (size - quadratic)).mean(-1)
