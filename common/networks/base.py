"""What every policy network is: a torch module from scaled observations to `NetworkOutput`."""

from abc import abstractmethod
from typing import Any, NamedTuple

import torch
from torch import nn


class NetworkOutput(NamedTuple):
    """What a policy network returns for B observations."""

    dist_inputs: torch.Tensor
    """[B, A] logits or Q-values."""
    value: torch.Tensor | None
    """[B] state values, where the network has a value head."""


class PolicyNetwork(nn.Module):
    """Base of the architectures in `common.networks.NETWORKS`."""

    def __init__(
        self,
        spec: Any,
        *,
        observation_shape: tuple[int, ...],
        num_actions: int,
        has_value: bool,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.observation_shape = observation_shape
        self.num_actions = num_actions
        self.has_value = has_value

    @abstractmethod
    def forward(self, observation: torch.Tensor) -> NetworkOutput:
        """Map scaled observations [B, *observation_shape] to outputs."""

    @abstractmethod
    def first_layers(self) -> list[nn.Module]:
        """Return the layers that see the observation (an input scale can be folded into them)."""

    def __call__(self, observation: torch.Tensor) -> NetworkOutput:
        """Same as `forward`, with its type."""
        output: NetworkOutput = super().__call__(observation)
        return output
