"""The two distributions that terms compare, and their temperatures.

Policy teachers: p = softmax(logits / τ). Q-teachers: p = softmax((q − max q) / τ), where a small τ
sharpens the small differences between Q-values (Rusu et al. 2015, eq. 3). The student's π is read
at a temperature of its own; one that must keep Q-values as well can match both at once only where
the two temperatures are the same.
"""

import torch
from torch.nn import functional as F

from common.networks import NetworkOutput
from common.policies.spec import DistKind
from learners.batch import DistillBatch
from learners.objectives.base import Term
from learners.objectives.schedule import Positive, PositiveOrAuto, present

DEFAULT_TEMPERATURE: dict[DistKind, float] = {"logits": 1.0, "q_values": 0.01}


class ReadsTeacher(Term):
    """A term that sees p."""

    temperature: PositiveOrAuto | None = None
    """τ of the teacher; by default 1 for policy teachers and 0.01 for Q-teachers. `auto` is
    resolved by `learners.objectives.temperature` before the first step."""

    def log_p(self, batch: DistillBatch) -> torch.Tensor:
        """Return log p, [B, A]."""
        temperature = self.temperature
        if temperature is None:
            temperature = DEFAULT_TEMPERATURE[batch.teacher_dist]
        return F.log_softmax(batch.teacher_dist_inputs / present(temperature), dim=-1)


class ReadsStudent(Term):
    """A term that sees π."""

    student_temperature: Positive = 1.0
    """τ of the student."""

    def log_pi(self, output: NetworkOutput) -> torch.Tensor:
        """Return log π, [B, A]."""
        return F.log_softmax(output.dist_inputs / present(self.student_temperature), dim=-1)


class ComparesPolicies(ReadsTeacher, ReadsStudent):
    """A term that sees both."""


def kl_divergence(log_a: torch.Tensor, log_b: torch.Tensor) -> torch.Tensor:
    """Return KL(a‖b) of every row, [B], from log-probabilities [B, A]."""
    return (log_a.exp() * (log_a - log_b)).sum(-1)


def cross_entropy(log_a: torch.Tensor, log_b: torch.Tensor) -> torch.Tensor:
    """Return H×(a‖b) of every row, [B], from log-probabilities [B, A]."""
    return -(log_a.exp() * log_b).sum(-1)
