import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from common.errors import ConfigError
from learners import trainer as trainer_module
from learners.checkpoint import save_checkpoint
from learners.trainer import VERSIONS_SKIPPED
from tests.builders import make_chunk
from tests.checkpoints import newest_state
from tests.learners.training import Run, item, same


def test_checkpoints_are_saved_at_their_interval(tmp_path: Path, monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(trainer_module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    run = Run(tmp_path, item(make_chunk()), *[item(steps=1)] * 5, checkpoint_interval_s=10.0)
    saved = []
    for now in (0, 9, 11, 20, 21, 31):
        clock.now = float(now)
        run.trainer.run_once(0.0)
        run.trainer.wait_until_saved()
        state = newest_state(tmp_path)
        saved.append(None if state is None else state["counters"]["learner_steps"])
    assert saved == [None, None, 2, 2, 4, 5]


def test_a_new_trainer_goes_on_from_the_newest_checkpoint(tmp_path: Path):
    chunk = make_chunk()
    first = Run(tmp_path, item(chunk, steps=9))
    first.trainer.run_once(0.0)
    first.trainer.close()
    second = Run(tmp_path, item(chunk), item(steps=1), student_seed=5)
    assert same(second.weights(), first.weights())
    stats, former = second.trainer.stats(), first.trainer.stats()
    assert (stats.learner_steps, stats.env_steps) == (former.learner_steps, former.env_steps)
    assert second.versions == [first.versions[-1] + VERSIONS_SKIPPED]
    assert same(dict(second.published[0].arrays), first.weights())
    assert second.trainer.run_once(0.0)
    assert second.trainer.stats().env_steps == former.env_steps
    assert second.trainer.run_once(0.0)
    assert second.trainer.stats().learner_steps == former.learner_steps + 1


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path: Path, monkeypatch):
    """The copy is of the step at which it was taken, whatever is learnt meanwhile."""
    writing, go_on = threading.Event(), threading.Event()

    def slow(*args: Any, **kwargs: Any) -> object:
        writing.set()
        assert go_on.wait(30.0)
        return save_checkpoint(*args, **kwargs)

    monkeypatch.setattr(trainer_module, "save_checkpoint", slow)
    run = Run(
        tmp_path, item(make_chunk(), steps=2), *[item(steps=2)] * 3, checkpoint_interval_s=1e-9
    )
    run.trainer.run_once(0.0)
    assert writing.wait(30.0)
    then = run.weights()
    for _ in range(3):
        run.trainer.run_once(0.0)
    assert run.learner.learner_steps == 8
    assert not same(run.weights(), then)
    assert newest_state(tmp_path) is None
    go_on.set()
    assert run.trainer.wait_until_saved() is None
    state = newest_state(tmp_path)
    assert state is not None
    assert state["counters"]["learner_steps"] == 2
    assert same({name: tensor.numpy() for name, tensor in state["network"].items()}, then)


class FullDisk:
    """A folder of checkpoints whose disk can be full: the kernel refuses every write to it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        with_name = Path.with_name

        def onto_the_full_disk(path: Path, name: str) -> Path:
            if not self.full or folder not in path.parents:
                return with_name(path, name)
            link = folder / "full"
            link.symlink_to("/dev/full")  # whoever writes removes what it could not finish
            return link

        monkeypatch.setattr(Path, "with_name", onto_the_full_disk)


def test_a_full_disk_holds_up_nothing_and_is_told_once(tmp_path: Path, monkeypatch, caplog):
    disk = FullDisk(tmp_path, monkeypatch)
    run = Run(tmp_path, item(make_chunk()), *[item(steps=1)] * 6, checkpoint_interval_s=1e-9)

    def turn() -> list[str]:
        run.trainer.run_once(0.0)
        run.trainer.wait_until_saved()
        return list(caplog.messages)

    assert turn() == turn() == []
    saved = newest_state(tmp_path)
    assert saved is not None
    disk.full = True
    (failed,) = turn()
    assert "writing a checkpoint failed: " in failed
    assert "No space left on device" in failed
    assert turn() == [failed]
    assert run.learner.learner_steps == 3
    kept = newest_state(tmp_path)
    assert kept is not None
    assert kept["counters"] == saved["counters"]
    disk.full = False
    assert turn() == [failed, "writing a checkpoint works again"]
    state = newest_state(tmp_path)
    assert state is not None
    assert state["counters"]["learner_steps"] == 4


def test_a_last_checkpoint_that_cannot_be_written_is_told_and_the_one_before_stays(
    tmp_path: Path, monkeypatch
):
    disk = FullDisk(tmp_path, monkeypatch)
    run = Run(tmp_path, item(make_chunk(), steps=1), item(steps=1))
    run.trainer.run_once(0.0)
    run.trainer.save()
    run.trainer.wait_until_saved()
    disk.full = True
    run.trainer.run_once(0.0)
    run.trainer.close()
    assert run.trainer.unsaved is not None
    assert "No space left on device" in run.trainer.unsaved
    disk.full = False
    state = newest_state(tmp_path)
    assert state is not None
    assert state["counters"]["learner_steps"] == 1
    run.trainer.close()
    assert run.trainer.unsaved is None


def test_a_damaged_checkpoint_is_told_to_the_user(tmp_path: Path, caplog):
    first = Run(tmp_path, item(make_chunk(), steps=1), item(steps=1))
    for _ in range(2):
        first.trainer.run_once(0.0)
        first.trainer.save()
    first.trainer.wait_until_saved()
    (tmp_path / "step-000000002" / "learner.pt").write_bytes(b"")
    second = Run(tmp_path)
    assert second.trainer.stats().learner_steps == 1
    (warning,) = caplog.messages
    assert "step-000000002 is damaged" in warning


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"optimizer": "lamb"}, "learner.optimizer = lamb, but .* made with adam"),
        ({"hidden": (8,)}, r"student.network = .*\[8\].* made with .*\[16\].*start a new run"),
    ],
    ids=["optimizer", "network"],
)
def test_a_checkpoint_of_another_student_is_refused(tmp_path: Path, change, words):
    first = Run(tmp_path, item(make_chunk(), steps=1))
    first.trainer.run_once(0.0)
    first.trainer.close()
    hidden = change.pop("hidden", None)
    student = {} if hidden is None else {"network": {"name": "mlp", "hidden": hidden}}
    with pytest.raises(ConfigError, match=words):
        Run(tmp_path, student=student, **change)


def test_a_checkpoint_holds_all_random_states_and_versions(tmp_path: Path):
    chunk = make_chunk(teacher_version=3)
    run = Run(tmp_path, item(chunk, steps=2))
    run.trainer.run_once(0.0)
    torch.manual_seed(5)
    run.trainer.close()
    drawn = torch.rand(3)
    resumed = Run(tmp_path)
    assert torch.equal(torch.rand(3), drawn)
    assert resumed.learner.teacher_version == 3
    rows = [learner.draw(9).rows for learner in (run.learner,)]
    resumed.learner.receive(item(chunk))
    assert torch.equal(resumed.learner.draw(9).rows, rows[0])
