"""KL(p‖π), the default term (Rusu et al. 2015, eq. 3).

Policy teachers: p = softmax(logits / τ). Q-teachers: p = softmax((q − max q) / τ), where a small τ
sharpens the small differences between Q-values. The student is read at its own temperature, 1
unless it must also keep Q-values (then the teacher's).
"""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch.nn import functional as F

from common.networks import NetworkOutput
from common.policies.spec import DistKind
from learners.batch import DistillBatch
from learners.objectives.base import Term

DEFAULT_TEMPERATURE: dict[DistKind, float] = {"logits": 1.0, "q_values": 0.01}


class KL(Term):
    """KL(p‖π)."""

    temperature: Annotated[float, Field(gt=0)] | Literal["auto"] | None = None
    """τ of the teacher; by default 1 for policy teachers and 0.01 for Q-teachers. `auto` is
    resolved by `learners.objectives.temperature` before the first step."""
    student_temperature: float = Field(default=1.0, gt=0)
    """τ of the student."""

    def __call__(self, batch: DistillBatch, output: NetworkOutput) -> torch.Tensor:
        """Return KL(p‖π) of every sample, [B]."""
        assert self.temperature != "auto"
        temperature = self.temperature or DEFAULT_TEMPERATURE[batch.teacher_dist]
        log_p = F.log_softmax(batch.teacher_dist_inputs / temperature, dim=-1)
        log_pi = F.log_softmax(output.dist_inputs / self.student_temperature, dim=-1)
        return (log_p.exp() * (log_p - log_pi)).sum(-1)
