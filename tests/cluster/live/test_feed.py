"""What the live page hears of a run, from a run board in this process."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from cluster.board import RunBoard, RunStatus
from cluster.live.feed import RunFeed
from cluster.report.metrics_log import MetricsLog, read_metrics
from common.errors import ResourceError

STATUS = RunStatus(name="pong", run_dir="/runs/pong", task="Pong", min_env_runners=2)


def draw(history: MetricsLog) -> dict[str, Any]:
    return {"loss": history.columns["learner/loss"].tolist()}


def until(condition: Callable[[], bool]) -> None:
    """Wait for what the feed's thread is to see, for half a minute at most."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "nothing was seen in half a minute"
        time.sleep(0.05)


@pytest.fixture
def board() -> RunBoard:
    board = RunBoard()
    board.begin("a", STATUS)
    return board


@pytest.fixture
def feed(board: RunBoard) -> Iterator[RunFeed]:
    with closing(
        RunFeed(board, "pong", history=read_metrics(b'{"learner/loss": 3.0}\n'), draw=draw)
    ) as feed:
        yield feed


def curve(feed: RunFeed) -> list[float]:
    values: list[float] = feed.charts()["loss"]
    return values


def test_the_curve_goes_on_from_the_history(board: RunBoard, feed: RunFeed) -> None:
    assert curve(feed) == [3.0]
    for loss in (2.0, 1.0):
        board.exchange("a", STATUS.model_copy(update={"figures": {"learner/loss": loss}}))
        until(lambda loss=loss: curve(feed)[-1] == loss)
    assert curve(feed) == [3.0, 2.0, 1.0]


def test_the_same_figures_count_once(board: RunBoard, feed: RunFeed) -> None:
    for env_steps in (1, 2):
        status = STATUS.model_copy(
            update={"env_steps": env_steps, "figures": {"learner/loss": 2.0}}
        )
        board.exchange("a", status)
        until(lambda env_steps=env_steps: feed.state()["env_steps"] == env_steps)
    assert curve(feed) == [3.0, 2.0]


def test_what_is_wanted_shows_at_once(board: RunBoard, feed: RunFeed) -> None:
    feed.want(num_env_runners=3)
    assert feed.state()["wanted"]["num_env_runners"] == 3
    assert board.entry("pong").wanted.num_env_runners == 3
    with pytest.raises(ResourceError, match="needs at least 2"):
        feed.want(num_env_runners=1)


def test_a_board_that_is_away_ages_the_run_and_may_come_back(
    board: RunBoard, feed: RunFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(name: str) -> Any:
        raise ResourceError("the cluster's run board does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(board, "entry", away)
        age = feed.entry.age_s
        until(lambda: feed.entry.age_s > age + 0.6)
    board.exchange("a", STATUS.model_copy(update={"env_steps": 9}))
    until(lambda: feed.state()["env_steps"] == 9)


def test_no_run_of_that_name() -> None:
    with pytest.raises(ResourceError, match="no such run"):
        RunFeed(RunBoard(), "pong", history=MetricsLog(), draw=draw)
