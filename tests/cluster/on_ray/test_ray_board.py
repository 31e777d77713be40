"""Taking a run's name from a board that answers at once, by a clock that only the test moves."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.exceptions import GetTimeoutError

from cluster.board import SILENT_S, RunBoard, RunStatus
from cluster.on_ray import board as ray_board
from cluster.on_ray.board import ANSWER_TIMEOUT_S, open_board, take_name
from common.errors import ResourceError

STATUS = RunStatus(name="pong", run_dir="/runs/pong", task="Pong")


class Board:
    """A run board behind Ray's way of calling it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.board = RunBoard(lambda: self.now)
        self.while_waiting: Callable[[], object] = lambda: None
        monkeypatch.setattr(ray_board, "ask", lambda call: call())
        monkeypatch.setattr(ray_board, "time", SimpleNamespace(sleep=self._sleep))

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.board, name)
        return SimpleNamespace(remote=lambda *args: lambda: method(*args))

    def _sleep(self, seconds: float) -> None:
        self.now += seconds
        self.while_waiting()


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Board:
    return Board(monkeypatch)


def test_a_free_name_is_taken_at_once(board: Board) -> None:
    assert take_name(board, board.begin, "a", STATUS) == 0
    assert board.now == 0.0


def test_the_name_of_a_dead_run_is_taken_after_a_minute(
    board: Board, caplog: pytest.LogCaptureFixture
) -> None:
    board.board.begin("a", STATUS)
    board.now = 7.0
    assert take_name(board, board.begin, "b", STATUS) == 0
    assert SILENT_S <= board.now < SILENT_S + 5
    assert board.board.exchange("a", STATUS).stop
    assert caplog.messages == ["a run named pong has not ended; it last reported 7.0 s ago"]


def test_a_run_that_reports_keeps_its_name(board: Board) -> None:
    board.board.begin("a", STATUS)
    board.now = 7.0
    board.while_waiting = lambda: board.board.exchange("a", STATUS)
    with pytest.raises(ResourceError, match="a run named pong is going on"):
        take_name(board, board.begin, "b", STATUS)
    assert board.now < 7.0 + 5
    assert not board.board.exchange("a", STATUS).stop


def test_a_board_that_starts_slowly_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    def get(reference: object, timeout: float) -> None:
        waits.append(timeout)
        raise GetTimeoutError

    ready = SimpleNamespace(remote=lambda: "ready")
    starting = SimpleNamespace(remote=lambda: SimpleNamespace(__ray_ready__=ready))
    monkeypatch.setattr(
        ray_board, "_RAY_BOARD", SimpleNamespace(options=lambda **options: starting)
    )
    monkeypatch.setattr(ray, "get", get)
    with pytest.raises(ResourceError, match="the cluster's run board did not start within 180 s"):
        open_board()
    assert waits == [180.0]
    assert waits[0] > 5 * ANSWER_TIMEOUT_S
