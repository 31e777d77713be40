"""H×(p‖π) = −Σ_a p(a) log π(a): KL(p‖π) plus the teacher's entropy, with the same gradient."""

import torch

from common.networks import NetworkOutput
from learners.batch import DistillBatch
from learners.objectives.softmax import ComparesPolicies, cross_entropy


class CrossEntropy(ComparesPolicies):
    """H×(p‖π)."""

    def __call__(self, batch: DistillBatch, output: NetworkOutput) -> torch.Tensor:
        """Return H×(p‖π) of every sample, [B]."""
        return cross_entropy(self.log_p(batch), self.log_pi(output))
