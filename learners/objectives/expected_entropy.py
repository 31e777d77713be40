"""Expected entropy regularised distillation (Czarnecki et al. 2019, table 1).

    ℓ_t − log π(a_t) (R̂_t − V_S) − α H(π_t),  ℓ_t = H×(π_t‖p_t),  R̂_t = Σ_{i≥t} γ^{i−t} r̂_i,
    r̂_t = log p(a_{t+1}|s_{t+1})

Its mean is the gradient of what the student's whole paths cost, −log p of every action. Each
state's own share comes from ℓ exactly, only what follows is estimated from the actions taken, so
that it stays steady with a thousand actions.

Every step that the teacher would not surely take costs, and nothing costs after an episode's end:
where the student can end episodes, it may come to seek ends. With `path_entropy` what follows is
log p − α log π, as the first step's is already; the least cost is then the teacher's own policy.
"""

import torch
from pydantic import Field

from common.networks import NetworkOutput
from learners.batch import DistillBatch
from learners.objectives.path import PolicyGradient
from learners.objectives.returns import reward_to_go
from learners.objectives.schedule import NonNegative, present
from learners.objectives.softmax import cross_entropy


class ExpectedEntropy(PolicyGradient):
    """H×(π‖p) along the student's own paths."""

    entropy_weight: NonNegative = 1.0
    """α."""
    return_weight: NonNegative = 1.0
    """Of what comes after a state."""
    path_entropy: bool = False
    """Whether what comes after a state is counted less its entropy, too."""
    lowest_log_p: float = Field(default=-10.0, lt=0)
    """log p counts as no less: an action that the teacher rules out would cost without bound."""

    def __call__(self, batch: DistillBatch, output: NetworkOutput) -> torch.Tensor:
        """Return the loss of every sample, [B]."""
        path = self.path(batch, output)
        log_p = path.log_p.clamp(min=self.lowest_log_p)
        rewards = path.taken(log_p)
        if self.path_entropy:
            rewards = rewards - present(self.entropy_weight) * path.log_pi_taken.detach()
        rewards = rewards.roll(-1, 0)  # r̂_t stands on the next row
        targets = reward_to_go(rewards, path.values, path.ends, discount=self.discount)
        actor, critic = self.credit(path, targets - path.values.detach(), targets)
        own = cross_entropy(path.log_pi, log_p) - present(self.entropy_weight) * path.entropy
        return (own + present(self.return_weight) * actor + critic).reshape(-1)
