import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from common import storage
from common.errors import StorageError
from common.storage import Location, Written, locate
from learners.checkpoint import FORMAT, MANIFEST, STATE, load_newest_checkpoint, save_checkpoint

ROOT = Path(__file__).resolve().parents[2]


def state_of(number: int) -> dict:
    return {
        "network": {"w": torch.full((40, 10), float(number))},
        "counters": {"learner_steps": number},
        "rng": np.random.default_rng(number).bit_generator.state,
        "metrics": {"loss": 0.5},
    }


def save(directory: Path | Location, *steps: int, keep: int = 5, **parts) -> None:
    for step in steps:
        save_checkpoint(directory, state_of(step), step=step, keep=keep, parts=parts)


def newest(directory: Path | Location) -> int | None:
    """Return the step of the checkpoint that is loaded, after a look at its tensor."""
    checkpoint = load_newest_checkpoint(directory)
    if checkpoint is None:
        return None
    step = checkpoint.state["counters"]["learner_steps"]
    assert torch.equal(checkpoint.state["network"]["w"], torch.full((40, 10), float(step)))
    return step


@pytest.fixture(params=["disk", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    if request.param == "disk":
        return locate(tmp_path)
    return locate(request.getfixturevalue("bucket")) / "run"


def test_a_checkpoint_comes_back_as_it_was(place: Location):
    folder = save_checkpoint(place / "deep" / "er", state_of(3), step=3, keep=1)
    assert folder == place / "deep" / "er" / "step-000000003"
    checkpoint = load_newest_checkpoint(place / "deep" / "er")
    assert checkpoint is not None
    assert checkpoint.folder == folder
    state = checkpoint.state
    assert torch.equal(state.pop("network")["w"], torch.full((40, 10), 3.0))
    assert state == {name: value for name, value in state_of(3).items() if name != "network"}


def test_where_there_is_none_nothing_is_loaded(place: Location):
    assert newest(place) is None
    assert newest(place / "missing") is None


def test_the_newest_is_loaded_whatever_the_number_of_its_digits(place: Location):
    save(place, 9, 10, 99, 100)
    assert newest(place) == 100
    save(place, 1_000_000_000, 999_999_999)
    assert newest(place) == 999_999_999, "what is later than the last one saved is gone"


def test_the_newest_few_are_kept(place: Location):
    save(place, 1, 2, 3, 10, 20, keep=2)
    assert place.names() == ["step-000000010", "step-000000020"]
    assert (place / "step-000000010").names() == [STATE, MANIFEST]


def test_what_was_never_finished_is_cleared_away_and_does_not_count(place: Location, caplog):
    save(place, 1)
    (place / "step-000000002" / STATE).write_bytes(b"half of it")
    assert newest(place) == 1
    assert (
        "step-000000002 is damaged (it has no manifest: its save was not finished"
        in caplog.messages[0]
    )
    save(place, 3)
    assert place.names() == ["step-000000001", "step-000000003"]


@pytest.mark.parametrize("keep", [1, 2])
def test_a_run_that_went_on_before_a_damaged_checkpoint_keeps_its_own(tmp_path: Path, keep: int):
    save(tmp_path, 10, 20)
    damage(tmp_path / "step-000000020" / STATE, "half")
    assert newest(tmp_path) == 10
    save(tmp_path, 15, keep=keep)
    assert newest(tmp_path) == 15
    assert sorted(os.listdir(tmp_path)) == ["step-000000010", "step-000000015"][-keep:]


def test_a_step_that_is_saved_again_gets_a_folder_of_its_own(place: Location):
    save(place, 4)
    for loss in (9.0, 10.0):
        state = state_of(4) | {"metrics": {"loss": loss}}
        folder = save_checkpoint(place, state, step=4, keep=1)
        checkpoint = load_newest_checkpoint(place)
        assert checkpoint is not None
        assert checkpoint.folder == folder
        assert checkpoint.state["metrics"] == {"loss": loss}
        assert place.names() == [folder.name]
    assert folder.name == "step-000000004-3"
    save(place, 5, keep=1)
    assert place.names() == ["step-000000005"]


def test_other_parts_are_saved_and_looked_at(place: Location, caplog):
    def part(location: Location) -> Written:
        return location.write_bytes(b"chunks")

    save(place, 1, 2, **{"shard-0.arrow": part})
    checkpoint = load_newest_checkpoint(place)
    assert checkpoint is not None
    assert (checkpoint.folder / "shard-0.arrow").read_bytes() == b"chunks"
    (checkpoint.folder / "shard-0.arrow").write_bytes(b"chonks")
    assert newest(place) == 1
    assert "(shard-0.arrow differs from its checksum); trying the one before" in caplog.messages[0]


def test_a_part_that_nobody_else_can_see_is_no_part(tmp_path: Path):
    """As of a shard on another machine that wrote to a disk of its own."""
    save(tmp_path, 1)
    with pytest.raises(StorageError, match=r"shard-0\.arrow: no such file"):
        save(tmp_path, 2, **{"shard-0.arrow": lambda location: Written(3, "")})
    assert os.listdir(tmp_path) == ["step-000000001"]


@pytest.mark.parametrize("step", [1, 2], ids=["same step", "next step"])
@pytest.mark.parametrize("file", [STATE, MANIFEST])
def test_a_full_disk_leaves_the_former_checkpoint_and_no_rubbish(
    tmp_path: Path, step: int, file: str
):
    save(tmp_path, 1, keep=1)
    again = "-2" if step == 1 else ""
    folder = tmp_path / f"step-{step:09d}{again}"
    folder.mkdir()
    (folder / f"{file}.partial").symlink_to("/dev/full")
    with pytest.raises(StorageError, match="No space left on device"):
        # The folder has no number of its own yet, so this save takes it.
        save_into(folder, step)
    assert newest(tmp_path) == 1
    assert os.listdir(tmp_path) == ["step-000000001"]
    save(tmp_path, step, keep=1)
    assert newest(tmp_path) == step


def save_into(folder: Path, step: int) -> None:
    """Save as if the folder were not there yet."""
    names = Location.names

    def without(location: Location) -> list[str]:
        return [name for name in names(location) if name != folder.name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Location, "names", without)
        save(folder.parent, step, keep=1)


class Killed(BaseException):
    """A kill, as far as a test can play one."""


@pytest.mark.parametrize("step", [1, 2], ids=["same step", "next step"])
@pytest.mark.parametrize("moment", ["save", "fsync", "replace"])
@pytest.mark.parametrize("file", [1, 2], ids=["state", "manifest"])
def test_a_kill_at_any_moment_leaves_the_former_checkpoint(
    tmp_path: Path, monkeypatch, step, moment, file
):
    save(tmp_path, 1, keep=1)
    calls = []

    def at_its_turn(what):
        def call(*arguments):
            calls.append(what)
            if len(calls) == file:
                raise Killed
            return what(*arguments)

        return call

    with monkeypatch.context() as patch:
        if moment == "save":
            patch.setattr(storage._Sink, "check", at_its_turn(storage._Sink.check))
        else:
            patch.setattr(storage.os, moment, at_its_turn(getattr(os, moment)))
        with pytest.raises(Killed):
            save(tmp_path, step, keep=1)
        assert newest(tmp_path) == 1
    save(tmp_path, step, keep=1)
    assert newest(tmp_path) == step
    assert len(os.listdir(tmp_path)) == 1


KILLED = """
import os, signal, sys, torch
from learners.checkpoint import save_checkpoint
def killed(location):
    def fill(sink):
        sink.write(b"half of it" * 1_000_000)
        os.kill(os.getpid(), signal.SIGKILL)
    return location.write(fill)
save_checkpoint(sys.argv[1], {"w": torch.zeros(3)}, step=2, keep=1, parts={"shard": killed})
"""


def test_kill_9_in_the_middle_of_a_save_leaves_the_former_checkpoint(place: Location):
    save(place, 1)
    process = subprocess.run(
        [sys.executable, "-c", KILLED, str(place)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
        timeout=120,
    )
    assert process.returncode == -signal.SIGKILL
    assert newest(place) == 1
    save(place, 3, keep=1)
    assert place.names() == ["step-000000003"]
    assert newest(place) == 3


def damage(path: Path, how: str) -> None:
    whole = path.read_bytes()
    match how:
        case "empty":
            path.write_bytes(b"")
        case "half":
            path.write_bytes(whole[: len(whole) // 2])
        case "last byte":
            path.write_bytes(whole[:-1])
        case "noise":
            path.write_bytes(np.random.default_rng(0).bytes(len(whole)))
        case "text":
            path.write_text("not a checkpoint\n")
        case "missing":
            path.unlink()
        case "directory":
            path.unlink()
            path.mkdir()


@pytest.mark.parametrize("file", [STATE, MANIFEST])
@pytest.mark.parametrize(
    "how", ["empty", "half", "last byte", "noise", "text", "missing", "directory"]
)
def test_a_damaged_newest_checkpoint_is_passed_over_with_a_warning(
    tmp_path: Path, how, file, caplog
):
    if (file, how) == (MANIFEST, "last byte"):
        pytest.skip("a line end is no part of it")
    save(tmp_path, 1, 2)
    damage(tmp_path / "step-000000002" / file, how)
    assert newest(tmp_path) == 1
    (line,) = caplog.messages
    assert "step-000000002 is damaged" in line
    assert "trying the one before" in line
    assert "\n" not in line
    damage(tmp_path / "step-000000001" / file, how)
    assert newest(tmp_path) is None


def test_a_byte_changed_anywhere_is_found(tmp_path: Path):
    save(tmp_path, 1, 2)
    path = tmp_path / "step-000000002" / STATE
    whole = bytearray(path.read_bytes())
    for place in range(0, len(whole), 97):
        damaged = whole.copy()
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        assert newest(tmp_path) == 1
    path.write_bytes(whole)
    assert newest(tmp_path) == 2


@pytest.mark.parametrize(
    "change",
    [{"format": FORMAT + 1}, {"files": {}}, {"files": {"../../x": [1, "a"]}}, {"files": [1]}],
    ids=["format", "no files", "outside", "list"],
)
def test_a_manifest_of_something_else_is_passed_over(tmp_path: Path, change):
    save(tmp_path, 1, 2)
    path = tmp_path / "step-000000002" / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert newest(tmp_path) == 1


def test_a_place_that_cannot_be_reached_is_not_taken_for_an_empty_one(bucket: str, monkeypatch):
    """Else a run would start from nothing, and remove what is there, after an hour without net."""
    place = locate(bucket)
    save(place, 1)
    read = Location.read_bytes

    def unreachable(location: Location) -> bytes:
        if location.name == STATE:
            raise StorageError("no answer")
        return read(location)

    monkeypatch.setattr(Location, "read_bytes", unreachable)
    with pytest.raises(StorageError, match="no answer"):
        newest(place)


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("writer", ["torch", "legacy torch", "pickle"])
def test_nothing_in_a_checkpoint_is_run(tmp_path: Path, writer, caplog):
    trace = tmp_path / "trace"
    hostile = {"network": Hostile(trace)}
    directory = tmp_path / "checkpoints"
    save(directory, 1, 2)
    path = directory / "step-000000002" / STATE
    with path.open("wb") as file:
        if writer == "pickle":
            pickle.dump(hostile, file, protocol=2)
        else:
            torch.save(hostile, file, _use_new_zipfile_serialization=writer == "torch")
    manifest = directory / "step-000000002" / MANIFEST
    text = json.loads(manifest.read_text())
    text["files"][STATE] = list(locate(path).checksum())
    manifest.write_text(json.dumps(text))
    assert newest(directory) == 1
    assert "step-000000002 is damaged" in caplog.messages[0]
    assert not trace.exists()
    if writer == "pickle":
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert trace.exists(), "the file was not hostile, so the test shows nothing"
