"""A session in one process: scaled, paused, closed, and gone on with."""

from pathlib import Path
from typing import Any

import pytest

from actors.collector import Collector
from cluster import local_backend
from cluster.assembly import build_collector
from cluster.local_backend import LocalBackend
from cluster.prepare import prepare
from cluster.recipe.config import RunConfig
from cluster.session import Session, Snapshot
from common.errors import ConfigError
from tests.cartpole import cartpole_teacher, load_config


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Return number and incarnation of the collectors whose environments were closed."""
    found: list[tuple[int, int]] = []

    def spy(config: RunConfig, *, runner_id: int, incarnation: int, **rest: Any) -> Collector:
        collector = build_collector(config, runner_id=runner_id, incarnation=incarnation, **rest)
        close = collector.close

        def close_and_tell() -> None:
            close()
            found.append((runner_id, incarnation))

        monkeypatch.setattr(collector, "close", close_and_tell)
        return collector

    monkeypatch.setattr(local_backend, "build_collector", spy)
    return found


def started(folder: Path, *overrides: str) -> Session:
    config = load_config(folder, "total_env_steps=10_000_000", *overrides)
    preparation = prepare(config, num_cpus=2, num_gpus=0)
    return LocalBackend().distil(preparation, cartpole_teacher(), folder / "checkpoints")


def lives(snapshot: Snapshot) -> list[tuple[int, int]]:
    return [(found.runner_id, found.incarnation) for found in snapshot.collectors]


def assert_accounted_for(snapshot: Snapshot) -> None:
    unseen = sum(sum(shard.unseen.values()) for shard in snapshot.shards)
    assert snapshot.lost == 0
    assert snapshot.collected == snapshot.trainer.env_steps + unseen
    assert snapshot.collected == sum(shard.inserted for shard in snapshot.shards)


def test_env_runners_come_and_go_and_their_environments_are_closed(
    tmp_path: Path, closed: list[tuple[int, int]]
) -> None:
    session = started(tmp_path)
    assert lives(session.poll()) == [(0, 0)]
    session.scale(3)
    three = session.poll()
    assert lives(three) == [(0, 0), (1, 0), (2, 0)]
    assert three.env_runners_wanted == 3
    session.scale(2)
    assert lives(session.poll()) == [(0, 0), (1, 0), (2, 0)]  # its last report
    assert closed == [(2, 0)]
    session.scale(3)
    again = session.poll()
    assert lives(again) == [(0, 0), (1, 0), (2, 1)]
    assert_accounted_for(again)
    session.finish()
    assert sorted(closed) == [(0, 0), (1, 0), (2, 0), (2, 1)]
    session.abort()
    assert len(closed) == 4


def test_a_number_below_the_number_of_shards_is_refused(tmp_path: Path) -> None:
    session = started(tmp_path, "replay.num_shards=2", "actors.num_env_runners=2")
    with pytest.raises(ConfigError, match=r"1 env runners are too few"):
        session.scale(1)
    session.abort()


def test_a_pause_stops_collecting_until_it_ends(tmp_path: Path) -> None:
    session = started(tmp_path)
    session.poll()
    session.pause(True)
    paused = session.poll()
    still = session.poll()
    assert paused.paused
    assert still.collected == paused.collected
    assert_accounted_for(still)
    session.pause(False)
    assert session.poll().collected > still.collected
    session.abort()


def test_a_run_that_goes_on_numbers_its_env_runners_lives_on(tmp_path: Path) -> None:
    """Chunk ids never come twice, so nothing new is taken for something old."""
    first = started(tmp_path)
    before = first.poll()
    first.finish()
    second = started(tmp_path)
    after = second.poll()
    assert lives(after) == [(0, 1)]
    assert after.trainer.env_steps > before.trainer.env_steps
    second.abort()


def test_the_learner_goes_by_what_it_is_told_the_student_reaches(tmp_path: Path) -> None:
    weight = "{start = 2.0, end = 0.0, until = 0.8, by = 'share_of_teacher'}"
    session = started(tmp_path, f"objective.kl.weight={weight}")
    assert session.poll().trainer.metrics["kl_weight"] == 2.0
    session.tell_share_of_teacher(0.6)
    assert session.poll().trainer.metrics["kl_weight"] == pytest.approx(0.5)
    session.abort()
