"""`DistillBatch`: what an objective sees. B = batch, A = actions."""

from dataclasses import dataclass

import torch

from common.policies.spec import DistKind


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DistillBatch:
    """B transitions with the teacher's outputs."""

    observations: torch.Tensor  # [B, *shape] as the environment gave them
    actions: torch.Tensor  # [B] int64
    rewards: torch.Tensor  # [B] float32, raw
    teacher_dist_inputs: torch.Tensor  # [B, A] float32 logits or Q-values
    teacher_dist: DistKind
    teacher_value: torch.Tensor | None  # [B] float32

    @property
    def size(self) -> int:
        """B."""
        return self.actions.shape[0]

    def slice(self, start: int, stop: int) -> "DistillBatch":
        """Return rows start to stop, without copying."""
        value = self.teacher_value
        return DistillBatch(
            observations=self.observations[start:stop],
            actions=self.actions[start:stop],
            rewards=self.rewards[start:stop],
            teacher_dist_inputs=self.teacher_dist_inputs[start:stop],
            teacher_dist=self.teacher_dist,
            teacher_value=None if value is None else value[start:stop],
        )
