"""Frames on their way into a network: their type and their layout in memory.

A batch of stacked frames [B, S, H, W] of bytes can enter a convolutional network in three layouts:

- `contiguous`: as it is, channel by channel.
- `channels_last`: the channels of a pixel beside each other, as matrix units of processors want
  them.
- `blocks`: squares of b × b pixels become channels (space to depth), b being the stride of the
  first convolution. With kernel k a multiple of b, a convolution over S channels with stride b is
  the same as one with depth S, b² channels, kernel k/b and stride 1. The 4 channels of a stack of
  frames leave a matrix unit nearly idle; 16 squares of 4 planes keep it busy, and a plane is cut
  into squares once, wherever it lies: a stack is still S planes one after the other.

Which is fastest is measured, not guessed (`cluster.compute`).
"""

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

Precision = Literal["float32", "float16", "bfloat16"]
DTYPES: dict[Precision, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
Layout = Literal["contiguous", "channels_last", "blocks"]

_ROW_TYPES = {2: np.int16, 4: np.int32, 8: np.int64}
"""Types as wide as a row of a square, by b; they only move bytes."""

_HALF_1024 = 0x6400
"""Bits of 1024 in float16; the ten low bits are then the units."""

Bytes = npt.NDArray[np.uint8]


def can_be_blocks(block: int) -> bool:
    """Whether a row of a square can be moved as one number."""
    return block in _ROW_TYPES


def cut_planes(planes: Bytes, block: int, out: Bytes) -> None:
    """Cut planes [P, H, W] into squares, `out` [P, H/b, W/b, b²] (contiguous)."""
    count, height, width = planes.shape
    row = _ROW_TYPES[block]
    rows = np.ascontiguousarray(planes).view(row)
    rows = rows.reshape(count, height // block, block, width // block)
    np.copyto(out.view(row), rows.transpose(0, 1, 3, 2))


def cut_stacks(frames: Bytes, block: int) -> Bytes:
    """Cut stacks [B, S, H, W] into squares [B, S, H/b, W/b, b²]."""
    count, stack, height, width = frames.shape
    shape = (count * stack, height // block, width // block, block * block)
    squares = np.empty(shape, np.uint8)
    cut_planes(frames.reshape(count * stack, height, width), block, squares)
    return squares.reshape(count, stack, *shape[1:])


def join_blocks(squares: torch.Tensor, block: int) -> torch.Tensor:
    """Put frames [B, S, H, W] together again from squares [B, b², S, H/b, W/b]."""
    count, _, stack, rows, columns = squares.shape
    parts = squares.reshape(count, block, block, stack, rows, columns)
    return parts.permute(0, 3, 4, 1, 5, 2).reshape(count, stack, rows * block, columns * block)


def convolve_blocks(
    squares: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, block: int
) -> torch.Tensor:
    """Apply a first convolution to blocks.

    Args:
        squares: [B, b², S, H/b, W/b], as `cast_frames` gives them.
        weight: [O, S, k, k] of the convolution over whole frames.
        bias: [O] or None.
        block: b, its stride.

    Returns:
        [B, O, (H − k)/b + 1, (W − k)/b + 1], channels-last.
    """
    out, stack, height, width = weight.shape
    cut = weight.view(out, stack, height // block, block, width // block, block)
    cut = cut.permute(0, 3, 5, 1, 2, 4).reshape(
        out, block * block, stack, height // block, width // block
    )
    deep = F.conv3d(squares, cut.contiguous(memory_format=torch.channels_last_3d), bias)
    return deep.squeeze(2)


def cast_frames(frames: torch.Tensor, dtype: torch.dtype, layout: Layout) -> torch.Tensor:
    """Make a network's input of bytes.

    Args:
        frames: uint8, [B, S, H, W]; for `blocks`, [B, S, H/b, W/b, b²].
        dtype: what the network computes in.
        layout: how the values shall lie.

    Returns:
        The same numbers, [B, S, H, W] or [B, b², S, H/b, W/b], never the memory of `frames`.
    """
    if layout == "blocks":
        return _cast(frames, dtype).permute(0, 4, 1, 2, 3)
    if layout == "channels_last":
        return frames.to(dtype, memory_format=torch.channels_last)
    return _cast(frames, dtype)


def _cast(frames: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    if dtype is torch.float16 and frames.device.type == "cpu":
        # torch casts bytes to float16 one by one; these steps are vectorised, and exact.
        bits = frames.to(torch.int16).bitwise_or_(_HALF_1024)
        return bits.view(torch.float16).sub_(1024)
    return frames.to(dtype)
