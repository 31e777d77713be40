"""Pictures of an Atari screen, as policies see them.

| name     | what is shown                                                                      |
|----------|------------------------------------------------------------------------------------|
| `screen` | all of it, in ALE's gray, made smaller by the mean over areas: what ale-py's vector |
|          | environment gives, after Mnih et al. 2015                                           |
| `field`  | rows 35 to 195 alone, the mean of red, green and blue, stretched to 0 to 255 in     |
|          | every frame, made smaller by a triangle filter: SciPy's former `imresize`, as       |
|          | baby-a3c uses it (github.com/greydanus/baby-a3c)                                    |
"""

import functools
from abc import ABC, abstractmethod
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from common.errors import ConfigError

Bytes = npt.NDArray[np.uint8]
PictureName = Literal["screen", "field"]
Colours = Literal["gray", "rgb"]

FIELD_ROWS = slice(35, 195)
_LEVELS = 3 * 255 + 1
"""Sums of red, green and blue."""


class Picture(ABC):
    """Makes frames of screens.

    Args:
        height: of a screen, in pixels.
        width: of a screen.
        size: height and width of a frame.
    """

    colours: Colours
    """What it is made from: screens [H, W] in gray, or [H, W, 3]."""

    def __init__(self, *, height: int, width: int, size: int) -> None:
        self._size = size

    @abstractmethod
    def __call__(self, screen: Bytes) -> Bytes:
        """Return the frame [size, size] of a screen."""


class ScreenPicture(Picture):
    """`screen`."""

    colours = "gray"

    def __init__(self, *, height: int, width: int, size: int) -> None:
        super().__init__(height=height, width=width, size=size)
        if size > min(height, width):
            raise ConfigError(
                f"frame_size = {size}: the screen has {height} x {width} pixels; use at most "
                f"{min(height, width)}"
            )
        self._rows = torch.from_numpy(area_weights(height, size))
        self._columns = torch.from_numpy(area_weights(width, size)).T.contiguous()

    def __call__(self, screen: Bytes) -> Bytes:
        """Return the means over areas, rounded."""
        means = self._rows @ (torch.from_numpy(screen).float() @ self._columns)
        frame: Bytes = means.round_().to(torch.uint8).numpy()
        return frame


class FieldPicture(Picture):
    """`field`."""

    colours = "rgb"

    def __call__(self, screen: Bytes) -> Bytes:
        """Return the playing field."""
        red, green, blue = np.moveaxis(screen[FIELD_ROWS], -1, 0)
        sums = red.astype(np.uint16) + green + blue
        stretched = np.take(_stretch(int(sums.min()), int(sums.max())), sums)
        small = F.interpolate(
            torch.from_numpy(stretched)[None, None],
            size=(self._size, self._size),
            mode="bilinear",
            antialias=True,
        )
        frame: Bytes = small[0, 0].numpy()
        return frame


PICTURES: dict[PictureName, type[Picture]] = {"screen": ScreenPicture, "field": FieldPicture}


def area_weights(pixels: int, size: int) -> npt.NDArray[np.float32]:
    """Return [size, pixels]: the share of every pixel in the mean over each of `size` areas."""
    edges = np.arange(size + 1) * (pixels / size)
    ends = np.minimum(edges[1:, None], np.arange(1, pixels + 1))
    starts = np.maximum(edges[:-1, None], np.arange(pixels))
    shares = np.clip(ends - starts, 0.0, None) * (size / pixels)
    weights: npt.NDArray[np.float32] = shares.astype(np.float32)
    return weights


@functools.lru_cache(maxsize=1024)
def _stretch(low: int, high: int) -> Bytes:
    """Return the byte of every sum of three colours, in a picture of sums from low to high."""
    means = np.arange(_LEVELS) / 3
    scale = 255.0 / ((high - low) / 3) if high > low else 255.0
    table: Bytes = (((means - low / 3) * scale).clip(0, 255) + 0.5).astype(np.uint8)
    return table
