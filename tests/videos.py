"""Reads videos as a player does."""

import gc
import warnings
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
import numpy.typing as npt


def read_video(path: Path) -> tuple[npt.NDArray[np.uint8], dict[str, Any]]:
    """Return all frames [F, H, W, 3] and what the file says of itself."""
    with warnings.catch_warnings():
        # imageio-ffmpeg leaves the pipes of an FFmpeg open that has come to the end by itself.
        warnings.simplefilter("ignore", ResourceWarning)
        with imageio.get_reader(path, format="FFMPEG") as reader:
            about = dict(reader.get_meta_data())
            frames = np.stack([np.asarray(frame) for frame in reader])
        del reader
        gc.collect()
    return frames, about
