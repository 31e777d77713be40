"""The head of a Gaussian policy with generalised state-dependent exploration.

Raffin et al. 2021 (CoRL, "Smooth Exploration for Robotic Reinforcement Learning"), section 3: the
noise is a linear function of the last features h with random weights of deviation σ, so an action's
variance is Σ_h h² σ². State names are `head.mean` and `head.log_std`.
"""

import torch
from pydantic import PositiveFloat
from torch import nn
from torch.nn import functional as F

from common.config import StrictModel

VARIANCE_FLOOR = 1e-6
"""As in Stable-Baselines3; added before the root."""


class GSDESpec(StrictModel):
    """How the mean is bounded."""

    clip_mean: PositiveFloat | None = None
    """Means are clipped to ± this (SAC), or left as they are (PPO)."""


class GSDEHead(nn.Module):
    """Features [B, H] → mean and log σ, [B, 2 · D]."""

    def __init__(self, spec: GSDESpec, num_features: int, size: int) -> None:
        super().__init__()
        self.mean = nn.Linear(num_features, size)
        self.log_std = nn.Parameter(torch.full((num_features, size), -2.0))
        self._clip = spec.clip_mean

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return mean and log σ side by side."""
        mean = self.mean(features)
        if self._clip is not None:
            mean = mean.clamp(-self._clip, self._clip)
        variance = F.linear(features.square(), (2 * self.log_std).exp().T)
        return torch.cat([mean, 0.5 * (variance + VARIANCE_FLOOR).log()], dim=-1)
