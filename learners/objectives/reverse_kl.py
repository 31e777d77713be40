"""KL(π‖p): the student need not do all that its teacher does, and nothing that it would not."""

import torch

from common.networks import NetworkOutput
from learners.batch import DistillBatch
from learners.objectives.softmax import ComparesPolicies, kl_divergence


class ReverseKL(ComparesPolicies):
    """KL(π‖p)."""

    def __call__(self, batch: DistillBatch, output: NetworkOutput) -> torch.Tensor:
        """Return KL(π‖p) of every sample, [B]."""
        return kl_divergence(self.log_pi(output), self.log_p(batch))
