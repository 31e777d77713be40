"""Kickstarting (Schmitt et al. 2018), on V-trace actor-critics (Espeholt et al. 2018).

    −log π(a) A + c_V ½ (V_S − v)² − c_H H(π) + λ_k H×(p‖π)

with V-trace's targets v and advantages A. λ_k falls while the student learns, so that it may pass
its teacher: `teacher_weight` takes a schedule.
"""

import torch
from pydantic import Field

from common.networks import NetworkOutput
from learners.batch import DistillBatch
from learners.objectives.path import UsesRewards
from learners.objectives.returns import vtrace
from learners.objectives.schedule import present
from learners.objectives.softmax import cross_entropy


class Kickstart(UsesRewards):
    """V-trace and H×(p‖π)."""

    ratio_clip: float = Field(default=1.0, gt=0)
    """ρ̄ and c̄."""

    def __call__(self, batch: DistillBatch, output: NetworkOutput) -> torch.Tensor:
        """Return the loss of every sample, [B]."""
        path = self.path(batch, output)
        found = vtrace(
            self.clipped(path.rewards),
            path.values,
            path.log_ratios,
            path.ends,
            discount=self.discount,
            clip=self.ratio_clip,
        )
        actor, critic = self.credit(path, found.advantages, found.targets)
        loss = actor + critic - present(self.entropy_weight) * path.entropy
        distance = cross_entropy(path.log_p, path.log_pi)
        return (loss + present(self.teacher_weight) * distance).reshape(-1)
