"""QDagger (Agarwal et al. 2022): Q-learning with the teacher's policy beside it.

    Huber(q(s, a) − y) + λ KL(p‖π),  π = softmax(q / τ),
    y = Σ_{k<n} γᵏ r_{t+k} + γⁿ q⁻(s_{t+n}, argmax_b q(s_{t+n}, b))

q⁻ is the target network, a copy of the student that the learner makes anew now and then (double
Q-learning, van Hasselt et al. 2016). λ falls while the student learns: `teacher_weight` takes a
schedule. Anybody may act.
"""

from typing import ClassVar

import torch
from pydantic import Field
from torch.nn import functional as F

from common.networks import NetworkOutput
from common.policies.spec import DistKind
from learners.batch import DistillBatch
from learners.objectives.path import clipped
from learners.objectives.returns import Ends, n_step
from learners.objectives.schedule import NonNegative, Positive, present
from learners.objectives.softmax import ComparesPolicies, kl_divergence


class QDagger(ComparesPolicies):
    """The n-step error of double Q-learning and KL(p‖π)."""

    reads_student_as: ClassVar[DistKind | None] = "q_values"
    over_time: ClassVar[bool] = True

    teacher_weight: NonNegative = 3.0
    """λ."""
    student_temperature: Positive = 0.1
    """τ."""
    discount: float = Field(default=0.99, ge=0, le=1)
    """γ."""
    num_steps: int = Field(default=3, ge=1)
    """n."""
    reward_clip: float | None = Field(default=None, gt=0)
    """Where given, rewards are cut to [−reward_clip, reward_clip]; they are raw otherwise."""
    huber_delta: float = Field(default=1.0, gt=0)
    """Errors beyond it count linearly."""
    target_interval_steps: int = Field(default=500, ge=1)
    """Learner steps between two copies of the student."""

    @property
    def target_interval(self) -> int | None:
        """Learner steps after which the target network is made anew."""
        return self.target_interval_steps

    def __call__(self, batch: DistillBatch, output: NetworkOutput) -> torch.Tensor:
        """Return the loss of every sample, [B]; without the error where no successor is known."""
        sequences, target = batch.sequences, batch.target_dist_inputs
        assert sequences is not None
        assert target is not None
        over_time = sequences.over_time
        ends = Ends(over_time(sequences.terminated), over_time(sequences.truncated))
        best = output.dist_inputs.argmax(-1, keepdim=True)
        targets = n_step(
            over_time(clipped(batch.rewards, self.reward_clip)),
            over_time(target.gather(-1, best).squeeze(-1)),
            ends,
            discount=self.discount,
            num_steps=self.num_steps,
        )
        taken = output.dist_inputs.gather(-1, batch.actions.unsqueeze(-1)).squeeze(-1)
        error = F.huber_loss(taken, targets.reshape(-1), reduction="none", delta=self.huber_delta)
        error = torch.where(ends.cut.reshape(-1), 0.0, error)
        distance = kl_divergence(self.log_p(batch), self.log_pi(output))
        return error + present(self.teacher_weight) * distance
