from types import SimpleNamespace

import pytest

from actors import collector as collector_module
from actors.behavior import StudentDriven
from actors.collector import Collector
from actors.env_runner import EnvRunner
from common.codec import EncodedChunk, decode
from common.policies.inference import InferencePolicy
from common.weights import WeightStore, weights_of
from tests.builders import Countdown, make_policy


class Clock:
    """Seconds that pass only where a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(collector_module, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


class Parts:
    """A collector, what it pulls from, and what it inserted."""

    def __init__(self) -> None:
        self.store = WeightStore()
        self.asked: list[int] = []
        self.inserted: list[EncodedChunk] = []
        self.env = Countdown(3, 5)
        runner = EnvRunner(
            self.env,
            teacher=InferencePolicy(make_policy(seed=1)),
            student=InferencePolicy(make_policy(seed=2)),
            behavior=StudentDriven(),
            unroll_length=10,
            total_env_steps=100,
            runner_id=4,
            incarnation=2,
            task_id="task",
            seed=0,
        )
        self.collector = Collector(
            runner, pull=self._pull, insert=self._insert, runner_id=4, incarnation=2
        )

    def publish(self, version: int) -> None:
        network = make_policy(seed=3).network
        self.store.publish(weights_of(network, version=version, learner_steps=0, env_steps=0))

    def _pull(self, version: int):
        self.asked.append(version)
        return self.store.pull_if_newer(version)

    def _insert(self, chunk: EncodedChunk) -> None:
        self.inserted.append(chunk)


def test_every_chunk_is_made_with_the_newest_weights():
    parts = Parts()
    for published in (None, 0, None, 7):
        if published is not None:
            parts.publish(published)
        parts.collector.run_once()
    assert parts.asked == [-1, -1, 0, 0]
    assert [decode(chunk).policy_version for chunk in parts.inserted] == [0, 0, 0, 7]
    assert parts.collector.stats().policy_version == 7


def test_chunks_are_handed_over_encoded_and_in_order():
    parts = Parts()
    for _ in range(3):
        parts.collector.run_once()
    assert [tuple(chunk.chunk_id) for chunk in parts.inserted] == [(4, 2, 0), (4, 2, 1), (4, 2, 2)]
    stats = parts.collector.stats()
    assert (stats.runner_id, stats.incarnation, stats.chunks) == (4, 2, 3)
    assert stats.env_steps == sum(decode(chunk).num_transitions for chunk in parts.inserted)


def test_episodes_are_reported_once():
    parts = Parts()
    parts.collector.run_once()
    first = parts.collector.stats().episodes
    assert sorted(episode.length for episode in first) == [3, 3, 5]
    assert parts.collector.stats().episodes == ()


def test_a_chunk_that_could_not_be_handed_over_is_not_counted():
    parts = Parts()
    parts.collector._insert = _fail
    with pytest.raises(ConnectionError):
        parts.collector.run_once()
    assert parts.collector.stats().chunks == 0


def _fail(chunk: EncodedChunk) -> None:
    raise ConnectionError


def test_time_is_told_apart_by_sampling_and_waiting(clock: Clock, monkeypatch):
    parts = Parts()
    step = parts.env.step

    def slow_step(actions):
        clock.now += 0.5
        return step(actions)

    def slow_insert(chunk: EncodedChunk) -> None:
        clock.now += 3.0

    monkeypatch.setattr(parts.env, "step", slow_step)
    monkeypatch.setattr(parts.collector, "_insert", slow_insert)
    for _ in range(2):
        parts.collector.run_once()
    stats = parts.collector.stats()
    assert (stats.sample_s, stats.wait_s) == (10.0, 6.0)


def test_a_wait_is_told_while_it_goes_on(clock: Clock, monkeypatch):
    parts = Parts()
    told: list[float] = []

    def slow_insert(chunk: EncodedChunk) -> None:
        for _ in range(2):
            clock.now += 3.0
            told.append(parts.collector.stats().wait_s)

    monkeypatch.setattr(parts.collector, "_insert", slow_insert)
    parts.collector.run_once()
    assert told == [3.0, 6.0]
    clock.now += 1.0
    assert parts.collector.stats().wait_s == 6.0


def test_closing_closes_the_environments(monkeypatch):
    parts = Parts()
    closed: list[bool] = []
    monkeypatch.setattr(parts.env, "close", lambda: closed.append(True))
    parts.collector.close()
    assert closed == [True]
