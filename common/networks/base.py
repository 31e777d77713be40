"""What every policy network is: a torch module from scaled observations to `NetworkOutput`."""

import math
from abc import abstractmethod
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn

from common.networks.inputs import DTYPES, Layout, Precision

HEADS = ("head", "value")
"""Names of the layers that give a network's outputs."""


class NormalizerValues(Protocol):
    """What tells how observations [D] are normalised (`common.policies.spec.Normalizer`)."""

    @property
    def mean(self) -> tuple[float, ...]:
        """[D]."""

    @property
    def std(self) -> tuple[float, ...]:
        """[D]."""

    @property
    def clip(self) -> float:
        """Of the normalised observation."""


class ObservationNormalizer(nn.Module):
    """Vectors [B, D] → clip((x − mean) / std, −clip, clip), computed in float32.

    Its numbers are constants of the policy's specification, and no part of the state dict.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, values: NormalizerValues) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(values.mean), persistent=False)
        self.register_buffer("std", torch.tensor(values.std), persistent=False)
        self._clip = values.clip

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        """Return the normalised observation in its own type."""
        centered = (observation.float() - self.mean) / self.std
        return centered.clamp(-self._clip, self._clip).to(observation.dtype)


class NetworkOutput(NamedTuple):
    """What a policy network returns for B observations."""

    dist_inputs: torch.Tensor
    """[B, A] as `common.policies.spec.DistKind` says."""
    value: torch.Tensor | None
    """[B] state values, where the network has a value head."""
    features: torch.Tensor | None = None
    """[B, F] last hidden layer, from which the heads read (the first head, with two towers)."""
    memory: torch.Tensor | None = None
    """[N, *memory_shape] float32 of N env copies after their last row, where there is one."""

    def float32(self) -> "NetworkOutput":
        """Return the same in float32."""
        return NetworkOutput(
            self.dist_inputs.float(),
            None if self.value is None else self.value.float(),
            None if self.features is None else self.features.float(),
            self.memory,
        )


class Steps(NamedTuple):
    """What a network with a memory must know of rows that are sequences, time-major."""

    num_steps: int
    """L; rows are [L · N]."""
    starts: torch.Tensor
    """[L, N] bool: rows before which the memory is made zeros."""
    burn_in: int
    """First rows of a sequence, which only fill the memory; no gradient reaches them."""


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
        self.normalizer: ObservationNormalizer | None = None
        self.build()

    @abstractmethod
    def build(self) -> None:
        """Make the layers that `spec` names, for observations and outputs of these shapes.

        Raises:
            MismatchError: the architecture cannot take observations of this shape.
        """

    def set_normalizer(self, values: NormalizerValues | None) -> None:
        """Normalise observations from now on, or leave them as they are."""
        self.normalizer = None if values is None else ObservationNormalizer(values)

    @abstractmethod
    def forward(self, observation: torch.Tensor, *, input_scale: float = 1.0) -> NetworkOutput:
        """Map observations [B, *observation_shape], times `input_scale`, to outputs.

        The scale is applied to the weights that see the observation, which are fewer. Frames may
        come in any layout of `common.networks.inputs` that the network can take. A network with a
        memory takes two arguments more: `memory` [N, *memory_shape], zeros where it is left out,
        and `steps` where rows are sequences and not one row of every env copy.
        """

    @abstractmethod
    def first_layers(self) -> list[nn.Module]:
        """Return the layers that see the observation (an input scale can be folded into them)."""

    def fold_scale(self, scale: float) -> None:
        """Take observations that still want this scale: put it into the weights, in place."""
        with torch.no_grad():
            for layer in self.first_layers():
                assert isinstance(layer.weight, torch.Tensor)
                layer.weight.mul_(scale)

    @property
    def num_parameters(self) -> int:
        """Number of weights and biases."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    @abstractmethod
    def num_features(self) -> int:
        """F, the width of the last hidden layer."""

    @property
    def memory_shape(self) -> tuple[int, ...] | None:
        """Shape of what it remembers of an env copy, or None where it remembers nothing."""
        return None

    @property
    def block(self) -> int | None:
        """Side of the squares in which frames may come, where the network can take blocks."""
        return None

    def layouts(self) -> tuple[Layout, ...]:
        """Return the layouts in which observations may come."""
        if len(self.observation_shape) != 3:
            return ("contiguous",)
        plain: tuple[Layout, ...] = ("contiguous", "channels_last")
        return plain if self.block is None else (*plain, "blocks")

    def precisions(self) -> tuple[Precision, ...]:
        """Return the types in which the network can compute."""
        return tuple(DTYPES)

    def set_layout(self, layout: Layout) -> None:
        """Keep the weights as inputs of this layout want them, in place."""
        memory = torch.contiguous_format if layout == "contiguous" else torch.channels_last
        self.to(memory_format=memory)  # type: ignore[call-overload]  # torch's stubs lack it

    def set_precision(self, dtype: torch.dtype) -> None:
        """Compute in `dtype`, in place, but the heads in float32.

        Heads are small, and rounding what they say decides between actions that are nearly equal.
        """
        normalizer, self.normalizer = self.normalizer, None  # whose numbers are not rounded
        self.to(dtype)
        self.normalizer = normalizer
        for name, module in self.named_children():
            if name in HEADS:
                module.to(torch.float32)

    def initialise(self) -> None:
        """Draw fresh weights: orthogonal (Saxe et al. 2014), gain √2 before hidden activations.

        With torch's default weights a small convolutional student of a Pong teacher stays on the
        plateau of the teacher's mean distribution for 200,000 samples and more; with these it
        leaves it within 20,000.
        """
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                output = name in HEADS
                nn.init.orthogonal_(module.weight, 1.0 if output else math.sqrt(2.0))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def __call__(
        self, observation: torch.Tensor, *, input_scale: float = 1.0, **remembered: Any
    ) -> NetworkOutput:
        """Normalise the observation where the policy does, and return what `forward` does."""
        if self.normalizer is not None:
            observation = self.normalizer(observation)
        output: NetworkOutput = super().__call__(observation, input_scale=input_scale, **remembered)
        return output


def scaled_weight(layer: nn.Linear | nn.Conv2d, scale: float) -> torch.Tensor:
    """Return a layer's weight times a scale."""
    return layer.weight if scale == 1.0 else layer.weight * scale


def apply_head(head: nn.Module, features: torch.Tensor) -> torch.Tensor:
    """Apply a head in its own precision (autocast, where it is on, overrules it)."""
    dtype = next(head.parameters()).dtype
    output: torch.Tensor = head(features.to(dtype))
    return output
