"""Writes frames as a video that browsers and phones play: H.264 in an .mp4, 4:2:0, index first.

FFmpeg, which imageio-ffmpeg brings along, writes to a folder of this machine; from there the video
goes to its place, whole or not at all.
"""

import os
import tempfile
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import imageio.v2 as imageio
import imageio_ffmpeg
import numpy as np
import numpy.typing as npt

from common.errors import ResourceError, StorageError
from common.storage import Named, locate

# A child that runs Python between fork and exec, to keep Ctrl-C from FFmpeg, may hang where other
# threads hold locks, as those of Ray and torch do.
os.environ.setdefault("IMAGEIO_FFMPEG_NO_PREVENT_SIGINT", "1")

FRAMES_PER_S = 30
QUALITY = 23
"""x264's constant rate factor: smaller is better, and larger files."""
_INDEX = b"moov"
"""The name of the index in an .mp4."""


class Video(NamedTuple):
    """What was written."""

    num_frames: int
    num_bytes: int


def write_video(
    place: Named, frames: Iterable[npt.NDArray[np.uint8]], *, max_bits_per_s: int | None = None
) -> Video:
    """Write a video.

    Args:
        place: of the .mp4.
        frames: [H, W, 3] each, of even height and width; all of one size.
        max_bits_per_s: of the video; pictures that need more are shown less sharply.

    Raises:
        ResourceError: there is no FFmpeg.
        StorageError: it cannot be written.
    """
    location = locate(place)
    try:
        imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:
        raise ResourceError(
            "no FFmpeg to write videos with; install one and name it in IMAGEIO_FFMPEG_EXE"
        ) from None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "video.mp4"
        try:
            num_frames = _encode(file, frames, max_bits_per_s)
            content = file.read_bytes()
        except OSError:  # which holds FFmpeg's whole command line
            content = b""
    if _INDEX not in content:  # nobody else says that FFmpeg broke off in the end
        raise StorageError(
            f"{location}: cannot be written (FFmpeg broke off while it wrote in "
            f"{tempfile.gettempdir()}; is there room?)"
        )
    return Video(num_frames, location.write_bytes(content).num_bytes)


def _encode(file: Path, frames: Iterable[npt.NDArray[np.uint8]], max_bits_per_s: int | None) -> int:
    """Write a file and return how many frames it has."""
    settings = ["-crf", str(QUALITY), "-movflags", "+faststart"]
    if max_bits_per_s is not None:
        settings += ["-maxrate", str(max_bits_per_s), "-bufsize", str(max_bits_per_s)]
    num_frames = 0
    writer = imageio.get_writer(
        file,
        format="FFMPEG",
        mode="I",
        fps=FRAMES_PER_S,
        codec="libx264",
        pixelformat="yuv420p",
        quality=None,
        macro_block_size=2,
        ffmpeg_log_level="quiet",
        output_params=settings,
    )
    with closing(writer):
        for frame in frames:
            writer.append_data(frame)
            num_frames += 1
    return num_frames
