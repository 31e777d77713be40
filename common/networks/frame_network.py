"""What convolutional networks have in common behind their convolutions."""

from abc import abstractmethod

import torch
from torch import nn

from common.errors import MismatchError
from common.networks.base import NetworkOutput, PolicyNetwork, apply_head


class FrameNetwork(PolicyNetwork):
    """Frames [B, stack, H, W] → features → ReLU layer → head, value."""

    fc: nn.Linear
    head: nn.Linear
    value: nn.Linear | None

    def frames(self) -> tuple[int, int, int]:
        """Return (stack, height, width).

        Raises:
            MismatchError: observations are no frames.
        """
        if len(self.observation_shape) != 3:
            raise MismatchError(
                f"{self.spec.name} takes frames (stack, height, width), not observations of shape "
                f"{self.observation_shape}; use network mlp for vectors"
            )
        stack, height, width = self.observation_shape
        return stack, height, width

    def build_last(self, size: int) -> None:
        """Make the layers behind the convolutions, which give `size` numbers."""
        self.fc = nn.Linear(size, self.spec.hidden)
        self.head = nn.Linear(self.spec.hidden, self.num_actions)
        self.value = nn.Linear(self.spec.hidden, 1) if self.has_value else None

    def forward(self, observation: torch.Tensor, *, input_scale: float = 1.0) -> NetworkOutput:
        """Map frames [B, stack, H, W] (or blocks of them), times `input_scale`, to outputs."""
        x = self.features(observation, input_scale=input_scale)
        value = apply_head(self.value, x).squeeze(-1) if self.value is not None else None
        return NetworkOutput(apply_head(self.head, x), value, x)

    @abstractmethod
    def features(self, observation: torch.Tensor, *, input_scale: float = 1.0) -> torch.Tensor:
        """Map frames to the fully connected layer, [B, F]."""

    def drop_heads(self) -> None:
        """Leave `features` alone."""
        del self.head

    @property
    def num_features(self) -> int:
        """Width of the fully connected layer."""
        return self.fc.out_features
