from pathlib import Path

import pytest

from cluster.growing_file import GrowingFile
from tests.disk import FULL, files_up_to, needs_full


def test_records_follow_each_other(tmp_path: Path) -> None:
    path = tmp_path / "made" / "file"
    for _ in range(2):  # another process goes on where the first one ended
        file = GrowingFile(path)
        assert file.append(b"one,")
        assert file.append(b"two,")
    assert path.read_bytes() == b"one,two,one,two,"


@needs_full
def test_a_full_disk_is_told_once_and_so_is_its_end(tmp_path: Path, caplog) -> None:
    path = tmp_path / "file"
    path.symlink_to(FULL)
    file = GrowingFile(path, ends_with=b"\n")
    for _ in range(3):
        assert not file.append(b"lost\n")
    (told,) = caplog.messages
    assert told == (
        f"{path} cannot be written (No space left on device); the run goes on without it"
    )
    path.unlink()
    assert file.append(b"kept\n")
    assert caplog.messages[1:] == [f"{path} is written again; it lacks 3 records"]
    assert file.append(b"kept\n")
    assert path.read_bytes() == b"kept\nkept\n"
    assert len(caplog.messages) == 2


def test_a_disk_that_fills_up_in_a_record_keeps_no_half_of_it(tmp_path: Path, caplog) -> None:
    path = tmp_path / "file"
    file = GrowingFile(path)
    file.append(b"whole")
    with files_up_to(8):
        with path.open("ab", buffering=0) as direct:
            assert direct.write(b"half!") == 3  # the system takes what fits
            direct.truncate(5)
        assert not file.append(b"half!")
        assert path.read_bytes() == b"whole"
        assert file.append(b"fit")
    assert path.read_bytes() == b"wholefit"
    assert len(caplog.messages) == 2


@pytest.mark.parametrize(
    ("left", "kept"),
    [(b"", b""), (b"a\n", b"a\n"), (b"a\nb", b"a\n"), (b"half", b""), (b"\n", b"\n")],
)
def test_half_a_record_of_a_killed_process_is_cut_off(
    left: bytes, kept: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(left)
    assert GrowingFile(path, ends_with=b"\n").append(b"new\n")
    assert path.read_bytes() == kept + b"new\n"


def test_a_folder_that_is_no_folder_ends_nothing(tmp_path: Path, caplog) -> None:
    (tmp_path / "folder").write_text("in the way")
    assert not GrowingFile(tmp_path / "folder" / "file").append(b"lost")
    assert "the run goes on without it" in caplog.text
