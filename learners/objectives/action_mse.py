"""Squared error of the actions that teacher and student take without chance, in units of the Box.

A plain Gaussian teacher's mean is clipped as its environment would clip it; a student's is not, so
that it has a gradient beyond the bounds.
"""

from typing import ClassVar

import torch

from common.networks import NetworkOutput
from common.policies.spec import CONTINUOUS, DistKind
from learners.batch import DistillBatch
from learners.gaussian import student_kind, taken_actions
from learners.objectives.base import Term


class ActionMSE(Term):
    """Mean over entries of the squared error of actions."""

    teachers: ClassVar[tuple[DistKind, ...]] = CONTINUOUS

    def __call__(self, batch: DistillBatch, output: NetworkOutput) -> torch.Tensor:
        """Return the mean squared error of every sample, [B]."""
        kind = student_kind(batch, output.dist_inputs)
        student = taken_actions(kind, output.dist_inputs, clipped=False)
        teacher = taken_actions(batch.teacher_dist, batch.teacher_dist_inputs)
        return (student - teacher).square().mean(-1)
