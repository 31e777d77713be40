"""The convolutional network of Mnih et al. 2015 (Nature 518), by width.

State names are `conv1 … convN`, `fc`, `head` and, with a value head, `value`; convolutions are
OIHW, linear layers (out, in), and the flattening order is (C, H, W).
"""

from typing import Any, Literal

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import nn
from torch.nn import functional as F

from common.config import StrictModel
from common.errors import MismatchError
from common.networks.base import scaled_weight
from common.networks.frame_network import FrameNetwork
from common.networks.inputs import can_be_blocks, convolve_blocks

SIZES: dict[str, tuple[tuple[int, ...], int]] = {
    "nature": ((32, 64, 64), 512),
    "428k": ((16, 32, 32), 256),
    "113k": ((16, 16, 16), 128),
    "62k": ((16, 16, 16), 64),
}
"""Channels and fully connected width by name; the parameter counts of Rusu et al. 2015, table 1,
are with 18 actions: 1,693,362, 427,874, 113,346 and 61,954."""


class NatureCNNSpec(StrictModel):
    """Convolutions, one fully connected layer, and the heads.

    In the place of `channels` and `hidden`, `size` may be one of `SIZES`: "nature", "428k", "113k",
    "62k".
    """

    name: Literal["nature_cnn"] = "nature_cnn"
    channels: tuple[PositiveInt, ...] = (32, 64, 64)
    kernels: tuple[PositiveInt, ...] = (8, 4, 3)
    strides: tuple[PositiveInt, ...] = (4, 2, 1)
    hidden: int = Field(default=512, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _from_size(cls, data: Any) -> Any:
        """Let `size = "113k"` stand for channels and hidden."""
        if not isinstance(data, dict) or "size" not in data:
            return data
        rest = dict(data)
        size = rest.pop("size")
        if size not in SIZES:
            raise ValueError(f"size = {size!r}: unknown size; allowed: {', '.join(SIZES)}")
        if "channels" in rest or "hidden" in rest:
            raise ValueError("size stands for channels and hidden; give one or the other")
        channels, hidden = SIZES[size]
        return rest | {"channels": channels, "hidden": hidden}

    @model_validator(mode="after")
    def _same_length(self) -> "NatureCNNSpec":
        if not 0 < len(self.channels) == len(self.kernels) == len(self.strides):
            raise ValueError(
                f"channels, kernels and strides must have one entry a layer: "
                f"{len(self.channels)}, {len(self.kernels)}, {len(self.strides)}"
            )
        return self


class NatureCNN(FrameNetwork):
    """Frames [B, stack, H, W] → ReLU convolutions → ReLU layer → head, value."""

    def build(self) -> None:
        """Make the layers."""
        spec: NatureCNNSpec = self.spec
        channels, height, width = self.frames()
        self.convs: list[nn.Conv2d] = []
        for index, (out, kernel, stride) in enumerate(
            zip(spec.channels, spec.kernels, spec.strides, strict=True), start=1
        ):
            height, width = (height - kernel) // stride + 1, (width - kernel) // stride + 1
            if height < 1 or width < 1:
                raise MismatchError(
                    f"nature_cnn: frames of {self.observation_shape[1:]} are too small for layer "
                    f"conv{index} (kernel {kernel}, stride {stride})"
                )
            conv = nn.Conv2d(channels, out, kernel, stride)
            self.add_module(f"conv{index}", conv)
            self.convs.append(conv)
            channels = out
        self.build_last(channels * height * width)

    def features(self, observation: torch.Tensor, *, input_scale: float = 1.0) -> torch.Tensor:
        """Map frames to the fully connected layer, [B, F]."""
        x = F.relu(self._first(observation, input_scale))
        for conv in self.convs[1:]:
            x = F.relu(conv(x))
        return F.relu(self.fc(x.flatten(1)))

    def first_layers(self) -> list[nn.Module]:
        """Return the first convolution."""
        return [self.convs[0]]

    @property
    def block(self) -> int | None:
        """The first convolution's stride, where its kernel and the frames are multiples of it."""
        stride, kernel = self.spec.strides[0], self.spec.kernels[0]
        sizes = (kernel, *self.observation_shape[1:])
        fits = can_be_blocks(stride) and all(size % stride == 0 for size in sizes)
        return stride if fits else None

    def _first(self, observation: torch.Tensor, input_scale: float) -> torch.Tensor:
        conv = self.convs[0]
        weight = scaled_weight(conv, input_scale)
        if observation.ndim == 4:
            return F.conv2d(observation, weight, conv.bias, conv.stride)
        assert self.block is not None
        return convolve_blocks(observation, weight, conv.bias, self.block)
