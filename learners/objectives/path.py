"""What every term is that looks along time: it sees sequences as paths of the student's policy.

L = steps, S = sequences, A = actions.
"""

from typing import ClassVar, NamedTuple

import torch
from pydantic import Field
from torch.nn import functional as F

from common.networks import NetworkOutput
from common.policies.spec import DistKind
from learners.batch import DistillBatch
from learners.objectives.returns import Ends
from learners.objectives.schedule import NonNegative, present
from learners.objectives.softmax import ReadsTeacher


class Path(NamedTuple):
    """A batch along time, with what teacher and student say of it."""

    log_p: torch.Tensor  # [L, S, A]
    log_pi: torch.Tensor  # [L, S, A]
    values: torch.Tensor  # [L, S] V_S
    log_pi_taken: torch.Tensor  # [L, S] of the actions taken
    log_ratios: torch.Tensor  # [L, S] log π(a) − log μ(a), μ being who acted
    rewards: torch.Tensor  # [L, S] raw
    ends: Ends
    actions: torch.Tensor  # [L, S] int64

    def taken(self, of_actions: torch.Tensor) -> torch.Tensor:
        """Return the entries [L, S] of the actions taken, from [L, S, A]."""
        return of_actions.gather(-1, self.actions.unsqueeze(-1)).squeeze(-1)

    @property
    def entropy(self) -> torch.Tensor:
        """H(π), [L, S]."""
        return -(self.log_pi.exp() * self.log_pi).sum(-1)


class PolicyGradient(ReadsTeacher):
    """A term that credits the student's actions with what came after them.

    It needs a critic, V_S, which is the student's value head and is trained by the term itself.
    The student acts by sampling from π, with no random actions beside.
    """

    reads_student_as: ClassVar[DistKind | None] = "logits"
    needs_value: ClassVar[bool] = True
    over_time: ClassVar[bool] = True
    on_policy: ClassVar[bool] = True

    discount: float = Field(default=0.99, ge=0, le=1)
    """γ."""
    value_weight: NonNegative = 0.5
    """Of the critic's loss."""

    def path(self, batch: DistillBatch, output: NetworkOutput) -> Path:
        """Return the batch along time."""
        sequences = batch.sequences
        assert sequences is not None
        assert output.value is not None
        over_time = sequences.over_time
        log_pi = F.log_softmax(output.dist_inputs, dim=-1)
        taken = log_pi.gather(-1, batch.actions.unsqueeze(-1)).squeeze(-1)
        ratios = taken - sequences.behavior_log_prob
        return Path(
            log_p=over_time(self.log_p(batch)),
            log_pi=over_time(log_pi),
            values=over_time(output.value),
            log_pi_taken=over_time(taken),
            log_ratios=over_time(torch.where(sequences.valid, ratios, 0.0)),
            rewards=over_time(batch.rewards),
            ends=Ends(over_time(sequences.terminated), over_time(sequences.truncated)),
            actions=over_time(batch.actions),
        )

    def credit(
        self, path: Path, advantages: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what the actor loses, −log π(a) A, and the critic, weighted; [L, S] each."""
        return -path.log_pi_taken * advantages, self.critic(path, targets)

    def critic(self, path: Path, targets: torch.Tensor) -> torch.Tensor:
        """Return ½ (V_S − target)² by its weight, [L, S]."""
        return 0.5 * present(self.value_weight) * (path.values - targets).square()


class UsesRewards(PolicyGradient):
    """A policy gradient on the environment's own rewards, with the teacher beside it."""

    teacher_weight: NonNegative = 1.0
    """λ, of what keeps the student near its teacher."""
    entropy_weight: NonNegative = 0.01
    """Of H(π), which is made large."""
    reward_clip: float | None = Field(default=None, gt=0)
    """Where given, rewards are cut to [−reward_clip, reward_clip]; they are raw otherwise."""

    def clipped(self, rewards: torch.Tensor) -> torch.Tensor:
        """Return the rewards that are learnt from."""
        return clipped(rewards, self.reward_clip)


def clipped(rewards: torch.Tensor, limit: float | None) -> torch.Tensor:
    """Return rewards cut to [−limit, limit], or as they are."""
    return rewards if limit is None else rewards.clamp(-limit, limit)
