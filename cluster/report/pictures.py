"""Observations of frames as small pictures."""

import base64
import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

GAP = 2
"""White pixels between two frames of a stack."""


def as_png(stack: npt.NDArray[Any]) -> str:
    """Return a stack of frames side by side, the oldest left, as PNG in base64.

    Args:
        stack: uint8 [S, H, W].
    """
    padded = np.pad(stack, ((0, 0), (0, 0), (0, GAP)), constant_values=255)
    strip = np.concatenate(list(padded), axis=1)[:, : -GAP or None]
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(strip)).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()
