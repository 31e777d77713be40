"""The error of V_S against the teacher's value, for students that keep a critic.

V_T is what the teacher's value head says; of Q-teachers it is Σ_a p(a) q(a), the value of the
softmax policy at the term's temperature. The student gets a value head, which leaves with it.
"""

from typing import ClassVar, Literal

import torch

from common.errors import MismatchError
from common.networks import NetworkOutput
from common.policies.spec import DistKind, PolicySpec
from learners.batch import DistillBatch
from learners.objectives.schedule import NonNegative
from learners.objectives.softmax import ReadsTeacher


class Value(ReadsTeacher):
    """|V_S − V_T| or ½ (V_S − V_T)²."""

    reads_student_as: ClassVar[DistKind | None] = "logits"  # Q-values are values already
    needs_value: ClassVar[bool] = True

    weight: NonNegative = 0.5
    error: Literal["absolute", "squared"] = "squared"

    def check_teacher(self, teacher: PolicySpec) -> None:
        """Ask for values.

        Raises:
            MismatchError: the teacher has neither a value head nor Q-values.
        """
        if teacher.dist != "q_values" and not teacher.has_value:
            raise MismatchError(
                f"objective.value needs a teacher with values, and {teacher.name} has neither a "
                f"value head nor Q-values; leave it out"
            )

    def __call__(self, batch: DistillBatch, output: NetworkOutput) -> torch.Tensor:
        """Return the error of every sample, [B]."""
        assert output.value is not None
        error = output.value - self._teacher_value(batch)
        return error.abs() if self.error == "absolute" else 0.5 * error.square()

    def _teacher_value(self, batch: DistillBatch) -> torch.Tensor:
        """Return V_T, [B]."""
        if batch.teacher_dist == "q_values":
            return (self.log_p(batch).exp() * batch.teacher_dist_inputs).sum(-1)
        assert batch.teacher_value is not None
        return batch.teacher_value
