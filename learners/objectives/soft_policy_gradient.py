"""−Σ_a p(a) w(s, a) log π(a): a policy gradient in which the teacher stands for the sampled action.

Without `advantage`, w = 1: every state counts alike, and the value is that of `cross_entropy`.
With it, w(s, a) = max(0, A(s, a)) / `advantage_scale`, where A(s, a) = q(s, a) − b(s) and

| advantage | b(s)                                                          | w favours       |
|-----------|---------------------------------------------------------------|-----------------|
| `mean`    | (1/A) Σ_a q(s, a), the value of acting at random              | states where it |
|           |                                                               | matters what    |
|           |                                                               | is done         |
| `value`   | V_T(s) of the teacher's value head, where it has one, or else | actions better  |
|           | Σ_a p(a) q(s, a)                                              | than usual      |

Under `value` a teacher that is nearly greedy has no action better than usual, and teaches nothing
there: it wants a temperature at which p is broad. The negative half of A is cut off because
−A log π has no lower bound there: with all of A the logits would drift apart for ever.

A value head alone says nothing of single actions, so `advantage` needs a Q-teacher.
"""

from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator

from common.errors import MismatchError
from common.networks import NetworkOutput
from common.policies.spec import DistKind, PolicySpec
from learners.batch import DistillBatch
from learners.objectives.softmax import ComparesPolicies


class SoftPolicyGradient(ComparesPolicies):
    """−Σ_a p(a) w(s, a) log π(a)."""

    reads_student_as: ClassVar[DistKind | None] = "logits"

    advantage: Literal["mean", "value"] | None = None
    """What Q-values are held against for w; None: w = 1."""
    advantage_scale: float | None = Field(default=None, gt=0)
    """Advantages are divided by it, in the units of the teacher's Q-values; by default 1."""

    @model_validator(mode="after")
    def _scales_something(self) -> "SoftPolicyGradient":
        if self.advantage is None and self.advantage_scale is not None:
            raise ValueError(
                f"advantage_scale = {self.advantage_scale:g} scales nothing without an advantage; "
                f"give advantage = 'mean' or leave it out"
            )
        return self

    def check_teacher(self, teacher: PolicySpec) -> None:
        """Ask for Q-values where advantages are wanted.

        Raises:
            MismatchError: the teacher has none.
        """
        if self.advantage is not None and teacher.dist != "q_values":
            raise MismatchError(
                f"objective.soft_policy_gradient.advantage = {self.advantage!r} needs a "
                f"Q-teacher, and {teacher.name} gives {teacher.dist}; leave it out"
            )

    def __call__(self, batch: DistillBatch, output: NetworkOutput) -> torch.Tensor:
        """Return the loss of every sample, [B]."""
        p = self.log_p(batch).exp()
        return -(p * self._weights(batch, p) * self.log_pi(output)).sum(-1)

    def _weights(self, batch: DistillBatch, p: torch.Tensor) -> torch.Tensor:
        """Return w, [B, A]."""
        if self.advantage is None:
            return torch.ones_like(p)
        q = batch.teacher_dist_inputs
        if self.advantage == "mean":
            baseline = q.mean(-1)
        elif batch.teacher_value is not None:
            baseline = batch.teacher_value
        else:
            baseline = (p * q).sum(-1)
        return (q - baseline.unsqueeze(-1)).clamp(min=0) / (self.advantage_scale or 1.0)
