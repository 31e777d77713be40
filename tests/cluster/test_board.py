"""The run board: names, reports, wishes, and runs that fall silent."""

import pytest

from cluster.board import ENDED_KEPT, SILENT_S, RunBoard, RunStatus, Wanted
from common.errors import ResourceError


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def board(clock: Clock) -> RunBoard:
    return RunBoard(clock)


def status(name: str = "pong", **changes: object) -> RunStatus:
    fields: dict[str, object] = {"name": name, "run_dir": f"/runs/{name}", "task": "Pong"}
    return RunStatus.model_validate(fields | changes)


def test_a_run_is_listed_with_its_last_report_and_its_age(board: RunBoard, clock: Clock) -> None:
    assert board.begin("a", status()) == 0
    board.exchange("a", status(env_steps=7))
    clock.now += 3
    (entry,) = board.entries()
    assert entry.status.env_steps == 7
    assert (entry.age_s, entry.alive, entry.starts) == (3, True, 1)
    assert board.entry("pong") == entry


def test_a_name_belongs_to_one_run_at_a_time(board: RunBoard) -> None:
    board.begin("a", status())
    with pytest.raises(ResourceError, match=r"named pong is going on .*/runs/pong.*--name"):
        board.claim("b", status())
    board.claim("b", status("other"))
    assert [entry.status.name for entry in board.entries()] == ["pong", "other"]


@pytest.mark.parametrize("phase", ["finished", "stopped", "failed"])
def test_the_name_of_a_run_that_ended_is_free(phase: str, board: RunBoard) -> None:
    board.begin("a", status())
    board.exchange("a", status(phase=phase))
    assert board.begin("b", status()) == 0
    assert board.entry("pong").alive


def test_the_name_of_a_silent_run_is_free_and_it_is_told_to_stop(
    board: RunBoard, clock: Clock
) -> None:
    board.begin("a", status())
    clock.now += SILENT_S
    assert not board.entry("pong").alive
    board.begin("b", status(env_steps=1))
    assert board.exchange("a", status(env_steps=2)) == Wanted(stop=True)
    assert board.entry("pong").status.env_steps == 1


def test_starts_after_a_crash_are_counted_and_keep_what_was_wanted(board: RunBoard) -> None:
    board.begin("a", status())
    board.want("pong", num_env_runners=4)
    assert board.begin("a", status()) == 1
    assert board.exchange("a", status(restarts={"learner": 2})).num_env_runners == 4
    assert board.entry("pong").status.restarts == {"learner": 2, "controller": 1}


def test_wishes_add_up(board: RunBoard) -> None:
    board.begin("a", status())
    assert board.exchange("a", status()) == Wanted()
    board.want("pong", num_env_runners=4)
    board.want("pong", paused=True)
    assert board.want("pong", num_env_runners=2).wanted == Wanted(num_env_runners=2, paused=True)
    assert board.exchange("a", status()) == Wanted(num_env_runners=2, paused=True)


def test_a_new_launch_starts_without_wishes(board: RunBoard) -> None:
    board.begin("a", status())
    board.want("pong", stop=True)
    board.exchange("a", status(phase="stopped"))
    board.begin("b", status())
    assert board.exchange("b", status()) == Wanted()


def test_what_cannot_be_had_is_refused_in_one_line(board: RunBoard, clock: Clock) -> None:
    with pytest.raises(ResourceError, match="pong: no such run on this cluster; there are: none"):
        board.want("pong", stop=True)
    board.begin("a", status(min_env_runners=2))
    with pytest.raises(ResourceError, match="--env-runners 1: pong needs at least 2"):
        board.want("pong", num_env_runners=1)
    assert board.exchange("a", status()) == Wanted()
    clock.now += SILENT_S
    with pytest.raises(ResourceError, match=r"silent, perhaps dead.*stillhouse resume /runs/pong"):
        board.want("pong", paused=True)
    board.exchange("a", status(phase="finished"))
    with pytest.raises(ResourceError, match="the run is finished"):
        board.want("pong", paused=True)
    with pytest.raises(ResourceError, match="there are: pong"):
        board.entry("other")


def test_a_board_that_lost_everything_learns_of_the_runs_again(clock: Clock) -> None:
    fresh = RunBoard(clock)
    assert fresh.exchange("a", status(env_steps=9)) == Wanted()
    assert fresh.entry("pong").status.env_steps == 9
    assert fresh.want("pong", stop=True).wanted.stop


def test_only_so_many_ended_runs_are_kept(board: RunBoard) -> None:
    board.begin("going on", status("first"))
    for number in range(ENDED_KEPT + 5):
        board.begin(f"t{number}", status(f"run{number}"))
        board.exchange(f"t{number}", status(f"run{number}", phase="finished"))
    names = [entry.status.name for entry in board.entries()]
    assert names[0] == "first"
    assert "run0" not in names
    assert len(names) <= ENDED_KEPT + 2
