"""KL(p‖π) of diagonal Gaussians, in closed form.

For squashed Gaussians both are taken before the tanh, which leaves the divergence as it is.
"""

from typing import ClassVar

import torch

from common.networks import NetworkOutput
from common.policies.spec import GAUSSIAN, DistKind
from learners.batch import DistillBatch
from learners.gaussian import split
from learners.objectives.base import Term


class GaussianKL(Term):
    """Σ over entries of log σ_π − log σ_p + (σ_p² + (μ_p − μ_π)²) / (2 σ_π²) − ½."""

    teachers: ClassVar[tuple[DistKind, ...]] = GAUSSIAN

    def __call__(self, batch: DistillBatch, output: NetworkOutput) -> torch.Tensor:
        """Return KL(p‖π) of every sample, [B]."""
        mean_p, log_p = split(batch.teacher_dist, batch.teacher_dist_inputs)
        mean_pi, log_pi = split(batch.teacher_dist, output.dist_inputs)
        log_ratio = log_p - log_pi
        distance = ((mean_p - mean_pi) * (-log_pi).exp()).square()
        return (0.5 * ((2 * log_ratio).exp() + distance - 1.0) - log_ratio).sum(-1)
