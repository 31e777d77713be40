"""KL(p‖π), the default term (Rusu et al. 2015, eq. 3)."""

import torch

from common.networks import NetworkOutput
from learners.batch import DistillBatch
from learners.objectives.softmax import ComparesPolicies, kl_divergence


class KL(ComparesPolicies):
    """KL(p‖π)."""

    def __call__(self, batch: DistillBatch, output: NetworkOutput) -> torch.Tensor:
        """Return KL(p‖π) of every sample, [B]."""
        return kl_divergence(self.log_p(batch), self.log_pi(output))
