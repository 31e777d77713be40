"""A teacher's network with a memory: convolutions, GRU cell (Cho et al. 2014), heads.

State names are `conv1 … convN`, `rnn.…` (as torch's `GRUCell` has them), `head` and, with a value
head, `value`. The memory of an env copy is [H]: what the cell says. It is zeros where an episode
starts. Such a network is asked, step by step, and never trained; `lstm` is the student's.
"""

from typing import Any, Literal

import torch
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from torch import nn
from torch.nn import functional as F

from common.config import StrictModel
from common.errors import MismatchError
from common.networks.base import NetworkOutput, PolicyNetwork, apply_head, scaled_weight
from common.networks.inputs import Precision

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "elu": nn.ELU}


class GRUSpec(StrictModel):
    """The convolutions, and the width of the memory."""

    name: Literal["gru"] = "gru"
    channels: tuple[PositiveInt, ...] = Field(min_length=1)
    kernels: tuple[PositiveInt, ...]
    strides: tuple[PositiveInt, ...]
    paddings: tuple[NonNegativeInt, ...]
    activation: Literal["relu", "elu"] = "relu"
    """After every convolution."""
    hidden: int = Field(gt=0)
    """H."""

    @model_validator(mode="after")
    def _same_length(self) -> "GRUSpec":
        lengths = [len(self.channels), len(self.kernels), len(self.strides), len(self.paddings)]
        if len(set(lengths)) > 1:
            raise ValueError(
                f"channels, kernels, strides and paddings must have one entry a layer: "
                f"{', '.join(map(str, lengths))}"
            )
        return self


class GRU(PolicyNetwork):
    """Frames [B, stack, H, W] → convolutions → GRU cell → head, value."""

    def build(self) -> None:
        """Make the layers."""
        spec: GRUSpec = self.spec
        if len(self.observation_shape) != 3:
            raise MismatchError(
                f"gru takes frames (stack, height, width), not observations of shape "
                f"{self.observation_shape}"
            )
        self._activation = ACTIVATIONS[spec.activation]()
        channels, height, width = self.observation_shape
        self._convs: list[nn.Conv2d] = []
        layers = zip(spec.channels, spec.kernels, spec.strides, spec.paddings, strict=True)
        for number, (out, kernel, stride, padding) in enumerate(layers, start=1):
            height, width = (
                (side + 2 * padding - kernel) // stride + 1 for side in (height, width)
            )
            if height < 1 or width < 1:
                raise MismatchError(
                    f"gru: frames of {self.observation_shape[1:]} are too small for layer "
                    f"conv{number} (kernel {kernel}, stride {stride}, padding {padding})"
                )
            conv = nn.Conv2d(channels, out, kernel, stride, padding)
            self.add_module(f"conv{number}", conv)
            self._convs.append(conv)
            channels = out
        self.rnn = nn.GRUCell(channels * height * width, spec.hidden)
        self.head = nn.Linear(spec.hidden, self.num_actions)
        self.value = nn.Linear(spec.hidden, 1) if self.has_value else None

    @property
    def memory_shape(self) -> tuple[int] | None:
        """(H,)."""
        return (self.spec.hidden,)

    def forward(
        self,
        observation: torch.Tensor,
        *,
        input_scale: float = 1.0,
        memory: torch.Tensor | None = None,
    ) -> NetworkOutput:
        """Map one observation of every env copy, and its memory, to outputs and memory."""
        first, *others = self._convs
        weight = scaled_weight(first, input_scale)
        x = observation.to(weight.dtype)
        x = self._activation(F.conv2d(x, weight, first.bias, first.stride, first.padding))
        for conv in others:
            x = self._activation(conv(x))
        if memory is None:
            memory = torch.zeros(len(x), self.spec.hidden, device=x.device)
        said = self._recur(x.flatten(1), memory)
        value = apply_head(self.value, said).squeeze(-1) if self.value is not None else None
        return NetworkOutput(apply_head(self.head, said), value, said, said)

    def first_layers(self) -> list[nn.Module]:
        """Return the first convolution."""
        return [self._convs[0]]

    @property
    def num_features(self) -> int:
        """H."""
        width: int = self.spec.hidden
        return width

    def precisions(self) -> tuple[Precision, ...]:
        """Return float32 alone: rounding would pile up in a memory."""
        return ("float32",)

    def set_precision(self, dtype: torch.dtype) -> None:
        """Stay in float32, whatever the observation comes in."""

    def _recur(self, features: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        """Return the new memory [B, H]: (1 − z) n + z h, in torch's order of gates r, z, n."""
        cell: Any = self.rnn
        driven = F.linear(features, cell.weight_ih, cell.bias_ih).chunk(3, dim=1)
        recalled = F.linear(memory, cell.weight_hh, cell.bias_hh).chunk(3, dim=1)
        reset, keep = ((driven[gate] + recalled[gate]).sigmoid() for gate in range(2))
        candidate = (driven[2] + reset * recalled[2]).tanh()
        return (1 - keep) * candidate + keep * memory
