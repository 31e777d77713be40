"""Fully connected networks for vector observations.

State names are `layers.0 …` and `head`; with a value head that shares the trunk, `value`; with a
value tower of its own (Stable-Baselines3's actor-critics), `value_layers.0 …` and `value`.
`common.networks.gsde` names the parts of its head.
"""

import itertools
from typing import Literal

import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import nn
from torch.nn import functional as F

from common.config import StrictModel
from common.errors import MismatchError
from common.networks.base import NetworkOutput, PolicyNetwork, apply_head, scaled_weight
from common.networks.gsde import GSDEHead, GSDESpec

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "elu": nn.ELU}


class MLPSpec(StrictModel):
    """Widths of the hidden layers and their activation."""

    name: Literal["mlp"] = "mlp"
    hidden: tuple[PositiveInt, ...] = Field(default=(64, 64), min_length=1)
    activation: Literal["relu", "tanh", "elu"] = "relu"
    value_hidden: tuple[PositiveInt, ...] | None = None
    """Widths of a separate value tower; None: the value head shares the trunk; (): the value head
    sees the observation."""
    inputs: tuple[NonNegativeInt, ...] | None = Field(default=None, min_length=1)
    """Which entries of the vector the network sees, counted from 0; None: all."""
    gsde: GSDESpec | None = None
    """For Gaussian policies: log σ by state-dependent exploration, not by linear outputs."""


class MLP(PolicyNetwork):
    """Vectors [B, D] → hidden layers → head, value."""

    def build(self) -> None:
        """Make the layers."""
        spec: MLPSpec = self.spec
        if len(self.observation_shape) != 1:
            raise MismatchError(
                f"mlp takes vectors (size,), not observations of shape {self.observation_shape}; "
                f"use network nature_cnn for frames"
            )
        size = _num_inputs(spec, self.observation_shape[0])
        self.activation = ACTIVATIONS[spec.activation]()
        self.layers = _linear_stack(size, spec.hidden)
        self.head: nn.Module = (
            nn.Linear(spec.hidden[-1], self.num_actions)
            if spec.gsde is None
            else GSDEHead(spec.gsde, spec.hidden[-1], self.num_actions // 2)
        )
        self.value_layers: nn.ModuleList | None = None
        self.value: nn.Linear | None = None
        if self.has_value and spec.value_hidden is not None:
            self.value_layers = _linear_stack(size, spec.value_hidden)
            self.value = nn.Linear((size, *spec.value_hidden)[-1], 1)
        elif self.has_value:
            self.value = nn.Linear(spec.hidden[-1], 1)

    def forward(self, observation: torch.Tensor, *, input_scale: float = 1.0) -> NetworkOutput:
        """Map vectors [B, D], times `input_scale`, to outputs."""
        features = self.features(observation, input_scale=input_scale)
        value = None
        if self.value is not None:
            towers = self.value_layers
            if towers is None:
                value = apply_head(self.value, features)
            elif len(towers) == 0:  # the value head sees the observation
                weight = scaled_weight(self.value, input_scale)
                value = F.linear(self._seen(observation).to(weight.dtype), weight, self.value.bias)
            else:
                value = apply_head(self.value, self._tower(towers, observation, input_scale))
            value = value.squeeze(-1)
        return NetworkOutput(apply_head(self.head, features), value, features)

    def features(self, observation: torch.Tensor, *, input_scale: float = 1.0) -> torch.Tensor:
        """Map vectors to the trunk's last layer, [B, F]."""
        return self._tower(self.layers, observation, input_scale)

    def drop_heads(self) -> None:
        """Leave `features` alone."""
        del self.head

    def first_layers(self) -> list[nn.Module]:
        """Return the first layer of the trunk and of the value tower."""
        if self.value is None or self.value_layers is None:
            return [self.layers[0]]
        return [self.layers[0], next(iter(self.value_layers), self.value)]

    @property
    def num_features(self) -> int:
        """Width of the trunk's last layer."""
        width: int = self.spec.hidden[-1]
        return width

    def _tower(
        self, layers: nn.ModuleList, observation: torch.Tensor, input_scale: float
    ) -> torch.Tensor:
        first = layers[0]
        assert isinstance(first, nn.Linear)
        weight = scaled_weight(first, input_scale)
        x: torch.Tensor = self.activation(F.linear(self._seen(observation), weight, first.bias))
        for layer in itertools.islice(layers, 1, None):
            x = self.activation(layer(x))
        return x

    def _seen(self, observation: torch.Tensor) -> torch.Tensor:
        """Return the entries that the network sees, [B, D']."""
        inputs = self.spec.inputs
        if inputs is None:
            return observation
        # Without an index tensor, which would have to travel to the device.
        return torch.stack([observation[..., index] for index in inputs], dim=-1)


def _num_inputs(spec: MLPSpec, size: int) -> int:
    """Return how many entries the network sees of a vector of this size."""
    if spec.inputs is None:
        return size
    if len(set(spec.inputs)) < len(spec.inputs) or max(spec.inputs) >= size:
        raise MismatchError(
            f"inputs = {list(spec.inputs)}: name different entries of the observation, from 0 to "
            f"{size - 1}"
        )
    return len(spec.inputs)


def _linear_stack(size: int, hidden: tuple[int, ...]) -> nn.ModuleList:
    sizes = (size, *hidden)
    return nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
