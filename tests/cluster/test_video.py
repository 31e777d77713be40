"""Videos, decoded again."""

from collections.abc import Iterator
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import numpy.typing as npt
import pytest

from cluster.video import FRAMES_PER_S, write_video
from common.errors import ResourceError, StorageError
from common.storage import locate
from tests.videos import read_video

Frame = npt.NDArray[np.uint8]


def frames_of(num_frames: int = 12, *, height: int = 62, width: int = 86) -> list[Frame]:
    """Return frames over which a bright square walks; neither side divides by 16."""
    frames = np.zeros((num_frames, height, width, 3), np.uint8)
    for number, frame in enumerate(frames):
        frame[8:24, 4 * number : 4 * number + 16] = (255, 255, 255)
    return list(frames)


def test_what_is_decoded_is_what_was_written(tmp_path: Path) -> None:
    frames = frames_of()
    written = write_video(tmp_path / "game.mp4", frames)
    assert written == (12, (tmp_path / "game.mp4").stat().st_size)
    found, about = read_video(tmp_path / "game.mp4")
    assert len(found) == 12
    for frame, wanted in zip(found, frames, strict=True):
        assert frame.shape == wanted.shape
        assert np.abs(frame.astype(int) - wanted).mean() < 3
    assert about["codec"] == "h264"
    assert str(about["pix_fmt"]).startswith("yuv420p")
    assert about["fps"] == FRAMES_PER_S


def test_its_index_comes_first_so_that_it_plays_while_it_loads(tmp_path: Path) -> None:
    write_video(tmp_path / "game.mp4", frames_of())
    content = (tmp_path / "game.mp4").read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")


def test_a_bit_rate_is_kept_by_what_is_hard_to_compress(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = list(rng.integers(256, size=(60, 240, 320, 3), dtype=np.uint8))
    free = write_video(tmp_path / "free.mp4", noise)
    bound = write_video(tmp_path / "bound.mp4", noise, max_bits_per_s=700_000)
    seconds = 60 / FRAMES_PER_S
    assert bound.num_bytes < 700_000 / 8 * (seconds + 1) + 10_000
    assert free.num_bytes > 2 * bound.num_bytes


def test_a_video_on_an_object_store(bucket: str) -> None:
    write_video(f"{bucket}/games/game.mp4", frames_of(3))
    assert b"moov" in locate(f"{bucket}/games/game.mp4").read_bytes()


def test_frames_that_fail_leave_the_former_video(tmp_path: Path) -> None:
    path = tmp_path / "game.mp4"
    path.write_bytes(b"former")

    def failing() -> Iterator[Frame]:
        yield from frames_of(3)
        raise ValueError("drawn badly")

    with pytest.raises(ValueError, match="drawn badly"):
        write_video(path, failing())
    assert [file.name for file in tmp_path.iterdir()] == ["game.mp4"]
    assert path.read_bytes() == b"former"


def test_a_place_that_cannot_be_written_gets_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="cannot be written"):
        write_video(tmp_path / "file" / "game.mp4", frames_of(2))


def test_a_machine_without_ffmpeg_gets_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "none"))
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", _none)
    with pytest.raises(ResourceError, match="IMAGEIO_FFMPEG_EXE"):
        write_video(tmp_path / "game.mp4", frames_of(2))


def _none() -> str:
    raise RuntimeError("No ffmpeg exe could be found.")


def test_ffmpeg_comes_with_the_installation() -> None:
    binaries = Path(imageio_ffmpeg.__file__).parent / "binaries"
    assert Path(imageio_ffmpeg.get_ffmpeg_exe()).is_relative_to(binaries)
