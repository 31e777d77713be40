"""`DistillBatch`: what an objective sees. B = batch, A = actions, L = steps of a sequence.

A batch of sequences is laid out time-major: row t of sequence s of S is t · S + s, and B = L · S.
Terms that look at each row by itself need not know.
"""

from dataclasses import dataclass

import torch

from common.networks import NetworkOutput
from common.policies.spec import DistKind


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sequences:
    """What a batch tells of its rows where they are whole sequences, each of one env copy."""

    num_steps: int
    """L."""
    valid: torch.Tensor
    """[B] bool: False on autoreset rows, which hold an episode's last observation: nothing may
    learn from them, but the row before them has its successor there. And False on the first
    `burn_in` rows of every sequence."""
    starts: torch.Tensor
    """[B] bool: rows with which an episode starts, after an autoreset row of their sequence."""
    burn_in: int = 0
    """Rows at a sequence's start that only fill the memory of a network that has one."""
    terminated: torch.Tensor  # [B] bool
    truncated: torch.Tensor  # [B] bool
    behavior_log_prob: torch.Tensor  # [B] float32
    acting_policy: torch.Tensor  # [B] uint8, TEACHER or STUDENT

    def over_time(self, rows: torch.Tensor) -> torch.Tensor:
        """Return rows [B, …] as [L, S, …]."""
        return rows.view(self.num_steps, -1, *rows.shape[1:])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DistillBatch:
    """B transitions with the teacher's outputs."""

    observations: torch.Tensor
    """[B, *shape] as the environment gave them, or frames as squares (common.networks.inputs)."""
    actions: torch.Tensor  # [B] int64, or [B, D] float32 in units of the Box
    rewards: torch.Tensor  # [B] float32, raw
    teacher_dist_inputs: torch.Tensor  # [B, A] float32, of the kind that teacher_dist says
    teacher_dist: DistKind
    teacher_value: torch.Tensor | None  # [B] float32
    teacher_version: torch.Tensor | None = None
    """[B] int32 version of the teacher that each row's labels are of, where a run refreshes it."""
    weights: torch.Tensor | None = None
    """[B] float32 factors of the samples' losses (importance weights), or None where all are 1."""
    target_dist_inputs: torch.Tensor | None = None
    """[B, A] float32 outputs of the target network, where the objective needs one."""
    sequences: Sequences | None = None
    """Where the recipe asks for sequences; otherwise every row is valid and stands for itself."""

    teacher_features: torch.Tensor | None = None
    """[B, F] float32 last hidden layer of the teacher, where the objective needs it."""

    task: str | None = None
    """Of a student of several tasks: which of them all rows are of."""
    outputs: slice | None = None
    """Which of the student's first outputs are the task's."""

    def of_task(self, output: NetworkOutput) -> NetworkOutput:
        """Return the task's part of what the student says of this batch."""
        if self.outputs is None:
            return output
        return output._replace(dist_inputs=output.dist_inputs[:, self.outputs])

    @property
    def size(self) -> int:
        """B."""
        return self.actions.shape[0]

    @property
    def num_valid(self) -> torch.Tensor | int:
        """Rows that may be learnt from."""
        return self.size if self.sequences is None else self.sequences.valid.sum()

    def mean(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the mean of [B] over the rows that are valid, []; 0 where none is."""
        if self.sequences is None:
            return rows.mean()
        valid = self.sequences.valid
        return torch.where(valid, rows, 0.0).sum() / valid.sum().clamp(min=1)

    def mean_of_draws(self, rows: torch.Tensor) -> torch.Tensor:
        """Return [B] as a sampler knows them: each by itself, or the mean of each sequence, [S]."""
        if self.sequences is None:
            return rows
        valid = self.sequences.over_time(self.sequences.valid)
        kept = torch.where(valid, self.sequences.over_time(rows), 0.0)
        return kept.sum(0) / valid.sum(0).clamp(min=1)
