"""‖W h_S − h_T‖²: the student's last hidden layer as the teacher's (Romero et al. 2015, eq. 3).

W is a linear layer that is trained along and stays with the learner. Features do not travel: the
learner asks a frozen copy of the teacher for those of its batches (`learners.features`), one
forward pass of the teacher a sample.
"""

from typing import ClassVar, get_args

import torch

from common.errors import MismatchError
from common.networks import NetworkOutput
from common.policies.spec import DistKind, PolicySpec
from learners.batch import DistillBatch
from learners.objectives.base import Term
from learners.objectives.schedule import NonNegative


class Feature(Term):
    """Squared distance of the features."""

    teachers: ClassVar[tuple[DistKind, ...]] = get_args(DistKind)
    needs_features: ClassVar[bool] = True

    weight: NonNegative = 0.01

    def check_teacher(self, teacher: PolicySpec) -> None:
        """Ask for a teacher whose layers are known.

        Raises:
            MismatchError: it is a program, of which only the outputs are seen, or several teachers.
        """
        hidden = {
            "external": "a program that shows its outputs only",
            "ensemble": "several networks with a layer each",
        }
        if (what := hidden.get(teacher.network.name)) is not None:
            raise MismatchError(
                f"objective.feature needs the teacher's last hidden layer, and {teacher.name} is "
                f"{what}; leave it out"
            )

    def __call__(self, batch: DistillBatch, output: NetworkOutput) -> torch.Tensor:
        """Return ‖W h_S − h_T‖² of every sample, [B]; `output.features` are W h_S."""
        assert batch.teacher_features is not None
        assert output.features is not None
        return (output.features - batch.teacher_features).square().sum(-1)
