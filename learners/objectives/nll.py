"""−log π(a*), a* = the teacher's greedy action: its argmax as a class to be learnt.

Of what the teacher says only the best action counts, so it has no temperature.
"""

import torch

from common.networks import NetworkOutput
from learners.batch import DistillBatch
from learners.objectives.softmax import ReadsStudent


class NLL(ReadsStudent):
    """Negative log-likelihood of the teacher's greedy action."""

    def __call__(self, batch: DistillBatch, output: NetworkOutput) -> torch.Tensor:
        """Return −log π(a*) of every sample, [B]."""
        greedy = batch.teacher_dist_inputs.argmax(-1, keepdim=True)
        return -self.log_pi(output).gather(-1, greedy).squeeze(-1)
