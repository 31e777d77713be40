"""The generalised Jensen-Shannon divergence (Agarwal et al. 2024, section 2), between both KLs.

JSD_β(p‖π) = β KL(p‖m) + (1 − β) KL(π‖m), with m = β p + (1 − β) π. It is never above log 2. For
β → 0, JSD_β / β becomes KL(p‖π); for β → 1, JSD_β / (1 − β) becomes KL(π‖p).
"""

import math

import torch
from pydantic import Field

from common.networks import NetworkOutput
from learners.batch import DistillBatch
from learners.objectives.softmax import ComparesPolicies, kl_divergence


class JSD(ComparesPolicies):
    """JSD_β(p‖π)."""

    beta: float = Field(default=0.5, gt=0, lt=1)
    """β."""

    def __call__(self, batch: DistillBatch, output: NetworkOutput) -> torch.Tensor:
        """Return JSD_β(p‖π) of every sample, [B]."""
        log_p, log_pi = self.log_p(batch), self.log_pi(output)
        log_m = torch.logaddexp(log_p + math.log(self.beta), log_pi + math.log1p(-self.beta))
        towards_p, towards_pi = kl_divergence(log_p, log_m), kl_divergence(log_pi, log_m)
        return self.beta * towards_p + (1 - self.beta) * towards_pi
