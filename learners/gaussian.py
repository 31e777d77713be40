"""What policies for Box actions say, as tensors: means, log σ, and the actions that they take.

Actions are in units of the Box, D entries each; `common.policies.spec` has the kinds of outputs.
The width of the student's outputs tells its kind: D for a deterministic student, else it is of its
teacher's kind.
"""

import torch

from common.policies.actions import LOG_STD_RANGE
from common.policies.spec import GAUSSIAN, DistKind
from learners.batch import DistillBatch


def split(dist: DistKind, dist_inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and clamped log σ, [B, D] each, of a Gaussian policy's outputs [B, 2 · D]."""
    mean, log_std = dist_inputs.chunk(2, dim=-1)
    return mean, log_std.clamp(*LOG_STD_RANGE[dist])


def student_kind(batch: DistillBatch, dist_inputs: torch.Tensor) -> DistKind:
    """Return what the student's outputs [B, width] are."""
    same_width = dist_inputs.shape[-1] == batch.teacher_dist_inputs.shape[-1]
    return batch.teacher_dist if same_width else "deterministic"


def taken_actions(
    dist: DistKind, dist_inputs: torch.Tensor, *, clipped: bool = True
) -> torch.Tensor:
    """Return the actions [B, D] that a policy takes without chance.

    Args:
        dist: what its outputs are.
        dist_inputs: the outputs.
        clipped: whether a plain Gaussian's mean is clipped to the bounds, where it has no gradient.
    """
    mean = dist_inputs.chunk(2, dim=-1)[0] if dist in GAUSSIAN else dist_inputs
    if dist != "gaussian":
        return mean.tanh()
    return mean.clamp(-1.0, 1.0) if clipped else mean
