from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from common.errors import RunFailedError
from learners import trainer as trainer_module
from learners.feed import FeedItem
from learners.trainer import MAX_RESTORES
from tests.builders import NUM_ACTIONS, make_chunk
from tests.checkpoints import newest_state
from tests.learners.training import BATCH, Run, item, same


def poison(*, steps: int) -> FeedItem:
    """Return a chunk of NaN labels that drives all others out of the window."""
    labels = np.full((30, 3, NUM_ACTIONS), np.nan, np.float16)
    return item(make_chunk(num_steps=30, teacher_dist_inputs=labels), steps=steps)


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
    run = Run(tmp_path, item(first), item(second))
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
