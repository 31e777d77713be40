"""`DistillBatch`: what an objective sees. B = batch, A = actions."""

from dataclasses import dataclass

import torch

from common.policies.spec import DistKind


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DistillBatch:
    """B transitions with the teacher's outputs."""

    observations: torch.Tensor
    """[B, *shape] as the environment gave them, or frames as squares (common.networks.inputs)."""
    actions: torch.Tensor  # [B] int64
    rewards: torch.Tensor  # [B] float32, raw
    teacher_dist_inputs: torch.Tensor  # [B, A] float32 logits or Q-values
    teacher_dist: DistKind
    teacher_value: torch.Tensor | None  # [B] float32
    weights: torch.Tensor | None = None
    """[B] float32 factors of the samples' losses (importance weights), or None where all are 1."""

    teacher_features: torch.Tensor | None = None
    """[B, F] float32 last hidden layer of the teacher, where the objective needs it."""

    @property
    def size(self) -> int:
        """B."""
        return self.actions.shape[0]
