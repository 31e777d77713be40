"""Features for `objective.feature`: the teacher's h_T, and the student's as W maps them, W h_S.

Both live in the learner. The teacher is a frozen copy that sees the batch's observations as the
student sees them, and computes in the same types. W is trained with the student by the same
optimiser, is part of checkpoints, and never leaves with the student.
"""

import copy
from typing import Any

import torch
from torch import nn

from common.networks import NetworkOutput, PolicyNetwork
from common.networks.inputs import Layout, join_blocks
from common.policies.policy import Policy


class TeacherFeatures:
    """A frozen teacher that is asked for its features only.

    Args:
        teacher: the teacher; it is left as it was.
        layout: in which inputs come.
        block: side of their squares, where the layout is `blocks`.
        device: where to compute.
    """

    def __init__(
        self, teacher: Policy, *, layout: Layout, block: int | None, device: torch.device
    ) -> None:
        self._network = copy.deepcopy(teacher.network).to(device).eval().requires_grad_(False)
        self._scale = teacher.spec.observation.scale
        self._joined = block if layout == "blocks" and block != self._network.block else None
        self._network.set_layout("contiguous" if self._joined is not None else layout)

    @torch.no_grad()
    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return h_T, [B, F], float32, of the student's inputs."""
        if self._joined is not None:
            inputs = join_blocks(inputs, self._joined)
        features = self._network(inputs, input_scale=self._scale).features
        assert features is not None
        return features.float()


class WithProjection(nn.Module):
    """A student whose features come as W h_S.

    Args:
        student: the student's network.
        num_features: width of the teacher's features.
        seed: of W's fresh weights; the caller's random state is left as it was.
    """

    def __init__(self, student: PolicyNetwork, num_features: int, *, seed: int) -> None:
        super().__init__()
        self.student = student
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.projection = nn.Linear(student.num_features, num_features, bias=False)

    def forward(
        self, observation: torch.Tensor, *, input_scale: float = 1.0, **remembered: Any
    ) -> NetworkOutput:
        """Return the student's outputs, with features [B, `num_features`]."""
        output = self.student(observation, input_scale=input_scale, **remembered)
        assert output.features is not None
        return output._replace(features=self.projection(output.features))
