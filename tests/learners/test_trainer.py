import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from common.errors import ConfigError, RunFailedError
from common.trajectory import TrajectoryChunk
from common.weights import PolicyWeights
from learners import trainer as trainer_module
from learners.checkpoint import save_checkpoint
from learners.config import LearnerConfig
from learners.feed import FeedItem, State
from learners.learner import Learner
from learners.objectives import ObjectiveConfig
from learners.trainer import MAX_RESTORES, VERSIONS_SKIPPED, Trainer
from tests.builders import NUM_ACTIONS, make_chunk, make_policy
from tests.checkpoints import newest_state

BATCH = 8


class ListFeed:
    """Gives prepared items."""

    def __init__(self, *items: FeedItem) -> None:
        self.items = list(items)
        self.opened = self.closed = False

    def get(self, timeout_s: float) -> FeedItem | None:
        return self.items.pop(0) if self.items else None

    def open(self, states: list[State] | None = None) -> None:
        self.opened = True

    def states(self) -> list[State]:
        return []

    def close(self) -> None:
        self.closed = True


def item(*chunks: TrajectoryChunk, steps: int = 0, first: int = 0) -> FeedItem:
    return FeedItem(epoch="a", granted=steps * BATCH, first_chunk=first, chunks=list(chunks))


def poison(*, steps: int) -> FeedItem:
    """Return a chunk of NaN labels that drives all others out of the window."""
    labels = np.full((30, 3, NUM_ACTIONS), np.nan, np.float16)
    return item(make_chunk(num_steps=30, teacher_dist_inputs=labels), steps=steps, first=100)


class Run:
    """A trainer with a prepared feed, and what it published."""

    def __init__(
        self,
        checkpoints: Path,
        *items: FeedItem,
        student_seed: int = 0,
        student: dict[str, Any] | None = None,
        **config: Any,
    ) -> None:
        values = {
            "batch_size": BATCH,
            "micro_batch_size": BATCH,
            "publish_interval_steps": 4,
            "checkpoint_interval_s": 1e9,
            "max_bad_steps": 3,
        }
        self.config = LearnerConfig.model_validate(values | config)
        self.published: list[PolicyWeights] = []
        self.feed = ListFeed(*items)
        self.learner = Learner(
            student=make_policy(seed=student_seed, **(student or {})),
            teacher_dist="logits",
            objective=ObjectiveConfig.model_validate({"kl": {}}),
            config=self.config,
            window_capacity=100,
            total_env_steps=200,
            seed=0,
            device=torch.device("cpu"),
        )
        self.trainer = Trainer(
            self.learner,
            self.feed,
            publish=self.published.append,
            config=self.config,
            checkpoints=checkpoints,
        )

    @property
    def versions(self) -> list[int]:
        return [weights.version for weights in self.published]

    def weights(self) -> dict[str, np.ndarray]:
        return dict(self.learner.weights(0).arrays)


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(a[name], b[name]) for name in a)


def test_the_first_version_is_the_student_before_its_first_step(tmp_path: Path):
    run = Run(tmp_path)
    assert run.versions == [0]
    assert same(dict(run.published[0].arrays), run.weights())


def test_weights_are_published_at_their_interval(tmp_path: Path):
    run = Run(tmp_path, item(make_chunk(), steps=3), item(steps=7))
    assert run.trainer.run_once(0.0)
    assert run.versions == [0]
    assert run.trainer.run_once(0.0)
    assert [(w.version, w.learner_steps) for w in run.published] == [(0, 0), (1, 4), (2, 8)]
    assert run.learner.learner_steps == 10


def test_without_an_item_nothing_happens(tmp_path: Path):
    run = Run(tmp_path, checkpoint_interval_s=1e-9)
    assert not run.trainer.run_once(0.0)
    assert run.trainer.stats().learner_steps == 0
    assert newest_state(tmp_path) is None


def test_a_run_ends_with_its_transitions(tmp_path: Path):
    first, second = (
        make_chunk(sequence=number, num_steps=50, num_envs=2, end_share=0.0) for number in range(2)
    )
    run = Run(tmp_path, item(first), item(second, first=1))
    run.trainer.run_once(0.0)
    assert not run.trainer.finished
    run.trainer.run_once(0.0)
    assert run.trainer.finished


def test_closing_publishes_saves_and_closes_the_feed(tmp_path: Path):
    run = Run(tmp_path, item(make_chunk(), steps=2))
    run.trainer.run_once(0.0)
    run.trainer.close()
    assert run.versions == [0, 1]
    assert same(dict(run.published[-1].arrays), run.weights())
    assert run.feed.closed
    state = newest_state(tmp_path)
    assert state is not None
    assert state["counters"]["learner_steps"] == 2


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


def test_bad_steps_below_the_limit_restore_nothing(tmp_path: Path):
    run = Run(tmp_path, item(make_chunk(), steps=2), poison(steps=2))
    run.trainer.save()
    run.trainer.wait_until_saved()
    run.trainer.run_once(0.0)
    trained = run.weights()
    run.trainer.run_once(0.0)
    stats = run.trainer.stats()
    assert (stats.skipped_steps, stats.restores) == (2, 0)
    assert same(run.weights(), trained)


def test_repeated_nan_restores_the_newest_checkpoint(tmp_path: Path, caplog):
    run = Run(tmp_path, item(make_chunk(), steps=2), item(steps=2), poison(steps=3))
    run.trainer.run_once(0.0)
    run.trainer.save()
    run.trainer.wait_until_saved()
    saved = run.weights()
    run.trainer.run_once(0.0)
    assert not same(run.weights(), saved)
    run.trainer.run_once(0.0)
    assert same(run.weights(), saved)
    stats = run.trainer.stats()
    assert (stats.learner_steps, stats.skipped_steps, stats.restores) == (7, 3, 1)
    assert caplog.messages == ["3 bad steps in a row: restoring the newest checkpoint"]


def test_nan_after_every_restored_checkpoint_ends_the_run(tmp_path: Path):
    run = Run(tmp_path, poison(steps=3 * MAX_RESTORES), item(steps=2), item(steps=1))
    run.trainer.save()
    run.trainer.wait_until_saved()
    run.trainer.run_once(0.0)
    run.trainer.run_once(0.0)
    assert run.trainer.stats().restores == MAX_RESTORES
    with pytest.raises(RunFailedError, match="3 steps in a row gave NaN") as caught:
        run.trainer.run_once(0.0)
    assert "\n" not in str(caught.value)


def test_repeated_nan_without_a_checkpoint_ends_the_run(tmp_path: Path):
    run = Run(tmp_path, poison(steps=3))
    with pytest.raises(RunFailedError, match=r"lower learner\.learning_rate"):
        run.trainer.run_once(0.0)


def test_stats_tell_what_the_learner_did(tmp_path: Path, monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(trainer_module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    run = Run(tmp_path, item(make_chunk(), steps=5))
    get, step = run.feed.get, run.learner.step

    def slow_get(timeout_s: float) -> FeedItem | None:
        clock.now += 2.0
        return get(timeout_s)

    def slow_step() -> None:
        clock.now += 0.5
        step()

    monkeypatch.setattr(run.feed, "get", slow_get)
    monkeypatch.setattr(run.learner, "step", slow_step)
    run.trainer.run_once(0.0)
    run.trainer.run_once(0.0)
    stats = run.trainer.stats()
    assert (stats.wait_s, stats.step_s) == (4.0, 2.5)
    assert (stats.learner_steps, stats.samples, stats.policy_version) == (5, 5 * BATCH, 1)
    assert stats.env_steps == stats.window_size == make_chunk().num_transitions
    assert stats.learning_rate == run.learner.learning_rate
    assert stats.metrics == run.learner.metrics


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
