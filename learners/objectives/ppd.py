"""Proximal policy distillation (Spigler 2025), on proximal policy optimisation (Schulman 2017).

    −min(ρ A, clip(ρ, 1 − ε, 1 + ε) A) + c_V ½ (V_S − V̂)² − c_H H(π) + λ max(ρ, 1 − ε) KL(p‖π),
    ρ = π(a) / μ(a), μ being who acted

A is the generalised advantage estimate, made anew with the present critic for every batch, and
V̂ = A + V_S. Data is used several times: about four is `replay.samples_per_insert = 4`.
"""

import torch
from pydantic import Field

from common.networks import NetworkOutput
from learners.batch import DistillBatch
from learners.objectives.path import Path, UsesRewards
from learners.objectives.returns import gae
from learners.objectives.schedule import present
from learners.objectives.softmax import kl_divergence


class PPD(UsesRewards):
    """PPO's loss and KL(p‖π) by the same ratio."""

    clip: float = Field(default=0.2, gt=0, lt=1)
    """ε."""
    gae_decay: float = Field(default=0.95, ge=0, le=1)
    """λ of the advantages."""
    normalise_advantages: bool = True
    """Whether advantages of a batch are brought to mean 0 and standard deviation 1."""

    def __call__(self, batch: DistillBatch, output: NetworkOutput) -> torch.Tensor:
        """Return the loss of every sample, [B]."""
        path = self.path(batch, output)
        advantages = gae(
            self.clipped(path.rewards),
            path.values,
            path.ends,
            discount=self.discount,
            decay=self.gae_decay,
        )
        targets = advantages + path.values.detach()
        if self.normalise_advantages:
            advantages = _normalised(batch, path, advantages)
        ratios = path.log_ratios.exp()
        near = ratios.clamp(1 - self.clip, 1 + self.clip)
        actor = -torch.minimum(ratios * advantages, near * advantages)
        distance = ratios.clamp(min=1 - self.clip) * kl_divergence(path.log_p, path.log_pi)
        loss = actor + self.critic(path, targets) - present(self.entropy_weight) * path.entropy
        return (loss + present(self.teacher_weight) * distance).reshape(-1)


def _normalised(batch: DistillBatch, path: Path, advantages: torch.Tensor) -> torch.Tensor:
    """Return advantages [L, S] less their mean, in standard deviations; cut rows stay 0."""
    known = (~path.ends.cut).to(advantages.dtype)
    share = batch.mean(known.reshape(-1)).clamp(min=1e-8)
    mean = batch.mean((advantages * known).reshape(-1)) / share
    centred = (advantages - mean) * known
    deviation = (batch.mean(centred.square().reshape(-1)) / share).sqrt()
    return centred / (deviation + 1e-8)
