"""N-distill (Czarnecki et al. 2019, table 1).

    ℓ_t − w log π(a_t) (R̂_t − V_S),  ℓ_t = H×(p_t‖π_t),  R̂_t = Σ_{i≥t} γ^{i−t} r̂_i,
    r̂_t = −ℓ_{t+1}

Distillation on the student's own states is no gradient of anything, because where the student goes
depends on what it learns; w = 1 puts that part in. It is noisy, and a little of it is enough.
"""

import torch

from common.networks import NetworkOutput
from learners.batch import DistillBatch
from learners.objectives.path import PolicyGradient
from learners.objectives.returns import reward_to_go
from learners.objectives.schedule import NonNegative, present
from learners.objectives.softmax import cross_entropy


class NDistill(PolicyGradient):
    """H×(p‖π) along the student's own paths."""

    return_weight: NonNegative = 0.1
    """w."""

    def __call__(self, batch: DistillBatch, output: NetworkOutput) -> torch.Tensor:
        """Return the loss of every sample, [B]."""
        path = self.path(batch, output)
        own = cross_entropy(path.log_p, path.log_pi)
        rewards = -own.detach().roll(-1, 0)
        targets = reward_to_go(rewards, path.values, path.ends, discount=self.discount)
        actor, critic = self.credit(path, targets - path.values.detach(), targets)
        return (own + present(self.return_weight) * actor + critic).reshape(-1)
