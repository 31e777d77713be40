"""What every term of an objective is.

Notation: p = teacher's action distribution, π = student's, τ = temperature, V_T and V_S = their
state values, h_T and h_S = their features (last hidden layers).
"""

from abc import abstractmethod
from typing import ClassVar

import torch

from common.config import StrictModel
from common.networks import NetworkOutput
from common.policies.spec import DistKind, PolicySpec
from learners.batch import DistillBatch
from learners.objectives.schedule import NonNegative, Schedule


class Term(StrictModel):
    """Hyperparameters of a term; calling it computes the loss of every sample."""

    teachers: ClassVar[tuple[DistKind, ...]] = ("logits", "q_values")
    """Kinds of teachers that the term can learn from."""
    reads_student_as: ClassVar[DistKind | None] = None
    """What the student's first output must mean for this term; None: either will do."""
    needs_value: ClassVar[bool] = False
    """Whether the student must have a value head for it."""
    needs_features: ClassVar[bool] = False
    """Whether batch and output must come with features."""
    over_time: ClassVar[bool] = False
    """Whether batches must be of sequences."""
    on_policy: ClassVar[bool] = False
    """Whether it learns from what the student itself did lately, sampling from π, and nothing
    else."""

    weight: NonNegative = 1.0
    """Factor in the objective's sum."""

    @property
    def target_interval(self) -> int | None:
        """Learner steps after which the target network is made anew; None: it needs none."""
        return None

    def check_teacher(self, teacher: PolicySpec) -> None:
        """Hold the term against a teacher of one of its `teachers`; by default any will do.

        Raises:
            MismatchError: the teacher does not give what the term needs.
        """
        del teacher

    def schedules(self) -> dict[str, Schedule]:
        """Return the hyperparameters that change, by name."""
        return {name: value for name, value in self if isinstance(value, Schedule)}

    @abstractmethod
    def __call__(self, batch: DistillBatch, output: NetworkOutput) -> torch.Tensor:
        """Return losses [B] of the student's float32 outputs on a batch."""
