"""The residual network of Espeholt et al. 2018 (IMPALA, the deep one), by width.

State names are `sections.S.conv`, `sections.S.blocks.B.conv1` and `conv2`, `fc`, `head` and, with a
value head, `value`; convolutions are OIHW, linear layers (out, in), and the flattening order is
(C, H, W).
"""

from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import nn
from torch.nn import functional as F

from common.config import StrictModel
from common.networks.base import scaled_weight
from common.networks.frame_network import FrameNetwork


class ImpalaCNNSpec(StrictModel):
    """Sections of residual blocks, one fully connected layer, and the heads."""

    name: Literal["impala_cnn"] = "impala_cnn"
    channels: tuple[PositiveInt, ...] = Field(default=(16, 32, 32), min_length=1)
    """Of each section, which halves height and width; the paper's, times 1 to 4 elsewhere."""
    blocks: PositiveInt = 2
    """Residual blocks a section."""
    hidden: PositiveInt = 256


class _Residual(nn.Module):
    """x + two convolutions of 3 x 3, each behind a ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner: torch.Tensor = self.conv2(F.relu(self.conv1(F.relu(x))))
        return x + inner


class _Section(nn.Module):
    """A convolution of 3 x 3, a maximum over 3 x 3 with stride 2, residual blocks."""

    def __init__(self, channels_in: int, channels: int, blocks: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels, 3, padding=1)
        self.blocks = nn.ModuleList(_Residual(channels) for _ in range(blocks))

    def forward(self, x: torch.Tensor, input_scale: float) -> torch.Tensor:
        weight = scaled_weight(self.conv, input_scale)
        x = F.max_pool2d(F.conv2d(x, weight, self.conv.bias, padding=1), 3, 2, padding=1)
        for block in self.blocks:
            x = block(x)
        return x


class ImpalaCNN(FrameNetwork):
    """Frames [B, stack, H, W] → sections → ReLU layer → head, value."""

    def build(self) -> None:
        """Make the layers."""
        spec: ImpalaCNNSpec = self.spec
        channels, height, width = self.frames()
        sections = []
        for out in spec.channels:
            sections.append(_Section(channels, out, spec.blocks))
            channels, height, width = out, (height + 1) // 2, (width + 1) // 2
        self.sections = nn.ModuleList(sections)
        self.build_last(channels * height * width)

    def features(self, observation: torch.Tensor, *, input_scale: float = 1.0) -> torch.Tensor:
        """Map frames to the fully connected layer, [B, F]."""
        x = observation
        for number, section in enumerate(self.sections):
            x = section(x, input_scale if number == 0 else 1.0)
        return F.relu(self.fc(F.relu(x).flatten(1)))

    def initialise(self) -> None:
        """Draw fresh weights; a residual block begins near the identity (Zhang et al. 2019).

        With the others' weights every block would add as much again as it gets.
        """
        super().initialise()
        for module in self.modules():
            if isinstance(module, _Residual):
                nn.init.orthogonal_(module.conv2.weight, 0.1)

    def first_layers(self) -> list[nn.Module]:
        """Return the first section's convolution."""
        first = self.sections[0]
        assert isinstance(first, _Section)
        return [first.conv]
