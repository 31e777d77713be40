import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from learners import checkpoint as checkpoint_module
from learners.checkpoint import FILE, load_newest_checkpoint, save_checkpoint


def state_of(number: int) -> dict:
    return {
        "network": {"w": torch.full((40, 10), float(number))},
        "counters": {"learner_steps": number},
        "rng": np.random.default_rng(number).bit_generator.state,
        "metrics": {"loss": 0.5},
    }


def save(directory: Path, *steps: int, keep: int = 5) -> None:
    for step in steps:
        save_checkpoint(directory, state_of(step), step=step, keep=keep)


def newest(directory: Path) -> int | None:
    """Return the step of the checkpoint that is loaded, after a look at its tensor."""
    state = load_newest_checkpoint(directory)
    if state is None:
        return None
    step = state["counters"]["learner_steps"]
    assert torch.equal(state["network"]["w"], torch.full((40, 10), float(step)))
    return step


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path):
    path = save_checkpoint(tmp_path / "deep" / "er", state_of(3), step=3, keep=1)
    assert path == tmp_path / "deep" / "er" / "step-000000003"
    state = load_newest_checkpoint(tmp_path / "deep" / "er")
    assert state is not None
    assert torch.equal(state.pop("network")["w"], torch.full((40, 10), 3.0))
    assert state == {name: value for name, value in state_of(3).items() if name != "network"}


def test_where_there_is_none_nothing_is_loaded(tmp_path: Path):
    assert newest(tmp_path) is None
    assert newest(tmp_path / "missing") is None


def test_the_newest_is_loaded_whatever_the_number_of_its_digits(tmp_path: Path):
    save(tmp_path, 9, 10, 99, 100)
    assert newest(tmp_path) == 100


def test_the_newest_few_are_kept(tmp_path: Path):
    save(tmp_path, 1, 2, 3, 10, 20, keep=2)
    assert sorted(os.listdir(tmp_path)) == ["step-000000010", "step-000000020"]


def test_what_a_kill_left_half_written_is_cleared_away(tmp_path: Path):
    (tmp_path / ".step-000000001.partial").mkdir()
    save(tmp_path, 2)
    assert os.listdir(tmp_path) == ["step-000000002"]


@pytest.mark.parametrize("keep", [1, 2])
def test_a_run_that_went_on_before_a_damaged_checkpoint_keeps_its_own(tmp_path: Path, keep: int):
    save(tmp_path, 10, 20)
    damage(tmp_path / "step-000000020" / FILE, "half")
    assert newest(tmp_path) == 10
    save(tmp_path, 15, keep=keep)
    assert newest(tmp_path) == 15
    assert sorted(os.listdir(tmp_path)) == ["step-000000010", "step-000000015"][-keep:]


def test_a_step_that_is_saved_again_is_replaced(tmp_path: Path):
    save(tmp_path, 4)
    save_checkpoint(tmp_path, state_of(4) | {"metrics": {"loss": 9.0}}, step=4, keep=1)
    state = load_newest_checkpoint(tmp_path)
    assert state is not None
    assert state["metrics"] == {"loss": 9.0}
    assert os.listdir(tmp_path) == ["step-000000004"]


class Killed(BaseException):
    """A kill, as far as a test can play one."""


@pytest.mark.parametrize("step", [1, 2], ids=["same step", "next step"])
@pytest.mark.parametrize("moment", ["save", "fsync", "rename", "replace"])
def test_a_kill_at_any_moment_leaves_the_former_checkpoint(
    tmp_path: Path, monkeypatch, step, moment
):
    save(tmp_path, 1, keep=1)

    def killed(*arguments: object) -> None:
        if moment == "save":
            arguments[1].write(b"half of it")
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_module.torch, "save", killed if moment == "save" else torch.save)
        patch.setattr(checkpoint_module.os, "fsync", killed if moment == "fsync" else os.fsync)
        if moment in ("rename", "replace"):  # one of both puts the checkpoint in its place
            patch.setattr(Path, "rename", killed)
            patch.setattr(checkpoint_module.os, "replace", killed)
        with pytest.raises(Killed):
            save(tmp_path, step, keep=1)
        assert newest(tmp_path) == 1
    save(tmp_path, step, keep=1)
    assert newest(tmp_path) == step
    assert len(os.listdir(tmp_path)) == 1


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


@pytest.mark.parametrize(
    "how", ["empty", "half", "last byte", "noise", "text", "missing", "directory"]
)
def test_a_damaged_newest_checkpoint_is_passed_over_with_a_warning(tmp_path: Path, caplog, how):
    save(tmp_path, 1, 2)
    damage(tmp_path / "step-000000002" / FILE, how)
    assert newest(tmp_path) == 1
    assert "step-000000002 is damaged" in caplog.text
    assert "trying the one before" in caplog.text
    damage(tmp_path / "step-000000001" / FILE, how)
    assert newest(tmp_path) is None


def test_a_byte_changed_anywhere_does_no_harm(tmp_path: Path, caplog):
    """The checkpoint is passed over, or the byte was one that does not matter."""
    save(tmp_path, 1, 2)
    path = tmp_path / "step-000000002" / FILE
    whole = bytearray(path.read_bytes())
    found = []
    for place in range(0, len(whole), 13):
        damaged = whole.copy()
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        found.append(newest(tmp_path))
    assert set(found) == {1, 2}
    assert found.count(1) > len(found) / 2


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("writer", ["torch", "legacy torch", "pickle"])
def test_nothing_in_a_checkpoint_is_run(tmp_path: Path, caplog, writer):
    trace = tmp_path / "trace"
    hostile = {"network": Hostile(trace)}
    directory = tmp_path / "checkpoints"
    save(directory, 1, 2)
    path = directory / "step-000000002" / FILE
    with path.open("wb") as file:
        if writer == "pickle":
            pickle.dump(hostile, file, protocol=2)
        else:
            torch.save(hostile, file, _use_new_zipfile_serialization=writer == "torch")
    assert newest(directory) == 1
    assert "step-000000002 is damaged" in caplog.text
    assert not trace.exists()
    if writer == "pickle":
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert trace.exists(), "the file was not hostile, so the test shows nothing"
