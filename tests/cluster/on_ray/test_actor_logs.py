"""Records on their way out of an actor, without Ray; on a cluster: `test_observability.py`."""

import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError

from cluster.on_ray import actor_logs, log_collector
from cluster.on_ray.actor_logs import (
    MAX_KEPT,
    MAX_PER_MINUTE,
    PACKAGES,
    ActorRecord,
    LogKeeperActor,
    hand_over_logs,
)
from cluster.on_ray.log_collector import LogCollector

RECORD = ActorRecord(
    created=12.5,
    level=logging.WARNING,
    logger="learners.checkpoint",
    message="100 % damaged",
    traceback=None,
    actor="learner 0",
)


class Keeper:
    """The handle of a keeper that is in this process."""

    name = "log-keeper-0"

    def __init__(self) -> None:
        self.pushed: list[ActorRecord] = []
        self.push = SimpleNamespace(remote=self.pushed.append)


@pytest.fixture
def keeper(monkeypatch: pytest.MonkeyPatch) -> Iterator[Keeper]:
    """A keeper that is found by its name; the packages' loggers are given back as they were."""
    found = Keeper()
    monkeypatch.setattr(actor_logs, "ray", SimpleNamespace(get_actor={found.name: found}.get))
    loggers = [logging.getLogger(name) for name in PACKAGES]
    former = [(list(one.handlers), one.level) for one in loggers]
    yield found
    for one, (handlers, level) in zip(loggers, former, strict=True):
        one.handlers[:] = handlers
        one.setLevel(level)


def test_an_actors_records_are_handed_over(keeper: Keeper) -> None:
    hand_over_logs(keeper.name, "shard 2")
    logging.getLogger("common.replay").info("%d chunks", 3)
    logging.getLogger("common.replay").debug("nothing to tell")
    try:
        raise ValueError("odd")
    except ValueError:
        logging.getLogger("learners.trainer").exception("it broke")
    first, second = keeper.pushed
    assert (first.level, first.message) == (logging.INFO, "3 chunks")
    assert (first.logger, first.actor, first.traceback) == ("common.replay", "shard 2", None)
    assert second.message == "it broke"
    assert second.traceback is not None
    assert second.traceback.endswith("ValueError: odd")


def test_an_actor_that_logs_too_much_is_cut_short_until_the_next_minute(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 600.0
    monkeypatch.setattr(actor_logs, "time", SimpleNamespace(monotonic=lambda: now))
    hand_over_logs(keeper.name, "learner 0")
    for _ in range(MAX_PER_MINUTE + 5):
        logging.getLogger("learners").warning("again")
    assert len(keeper.pushed) == MAX_PER_MINUTE
    now += 60.0
    logging.getLogger("learners").warning("again")
    logging.getLogger("learners").warning("again")
    assert [record.message for record in keeper.pushed[MAX_PER_MINUTE:]] == [
        "again (5 records before this one were left out)",
        "again",
    ]


def test_a_keeper_keeps_the_newest_and_counts_what_gave_way() -> None:
    keeper = LogKeeperActor()
    for _ in range(MAX_KEPT + 2):
        keeper.push(RECORD)
    assert keeper.take() == ([RECORD] * MAX_KEPT, 2)
    assert keeper.take() == ([], 0)


class Ray:
    """What `log_collector` uses of Ray; the keeper's answers are as the test says."""

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.killed = False
        self.keeper = SimpleNamespace(take=SimpleNamespace(remote=lambda: "reference"))

    def options(self, *, name: str) -> "Ray":
        self.name = name
        return self

    def remote(self) -> Any:
        return self.keeper

    def wait(self, references: list[str], *, num_returns: int, timeout: float) -> Any:
        return (references if self.answers else []), []

    def get(self, reference: str) -> Any:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def kill(self, actor: Any) -> None:
        self.killed = actor is self.keeper


@pytest.fixture
def fake_ray(monkeypatch: pytest.MonkeyPatch) -> Ray:
    fake = Ray()
    monkeypatch.setattr(log_collector, "ray", fake)
    monkeypatch.setattr(log_collector, "RAY_LOG_KEEPER", fake)
    return fake


def test_what_actors_logged_is_logged_again(fake_ray: Ray, caplog) -> None:
    collector = LogCollector()
    collector.poll()  # no answer yet
    assert caplog.records == []
    fake_ray.answers.append(([RECORD], 3))
    collector.poll()
    again, lost = caplog.records
    assert (again.name, again.levelname, again.created) == (RECORD.logger, "WARNING", 12.5)
    assert again.getMessage() == "100 % damaged"
    assert again.actor == "learner 0"
    assert collector.name == fake_ray.name
    assert lost.getMessage() == "3 log records of actors came too fast and are lost"


def test_a_keeper_that_dies_is_asked_again(fake_ray: Ray, caplog) -> None:
    collector = LogCollector()
    fake_ray.answers += [ActorDiedError(), ([RECORD], 0)]
    collector.poll()
    assert caplog.records == []
    collector.poll()
    assert len(caplog.records) == 1


def test_the_last_words_are_taken_at_the_end(fake_ray: Ray, caplog) -> None:
    collector = LogCollector()
    fake_ray.answers += [([], 0), ([RECORD], 0)]
    collector.close()
    assert len(caplog.records) == 1
    assert fake_ray.killed


def test_an_actor_without_a_keeper_works_unheard(monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    def get_actor(name: str) -> Any:
        raise ValueError(f"Failed to look up actor with name '{name}'")

    monkeypatch.setattr(actor_logs, "ray", SimpleNamespace(get_actor=get_actor))
    hand_over_logs("log-keeper-0", "shard 1")
    assert caplog.messages == ["there is no actor log-keeper-0: nothing of shard 1 reaches the log"]
