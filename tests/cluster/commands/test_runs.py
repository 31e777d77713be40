"""Commands on the runs of a cluster: what they say, of which cluster, and where there is none."""

from collections.abc import Callable
from typing import Any

import pytest

from cluster.board import Entry, RunStatus, Wanted
from cluster.commands.runs import _remarks
from cluster.on_ray import board as ray_board
from cluster.on_ray import connection as ray_connection
from tests.commands import Stillhouse, assert_refused

TEACHER = "teacher: version 3 (policy-9.safetensors), mean return 412.00"


def entry(**changes: object) -> Entry:
    fields: dict[str, object] = {"name": "pong", "run_dir": "runs/pong", "task": "Pong"}
    return Entry(RunStatus.model_validate(fields | changes), 1.0, Wanted(), 1)


def test_status_shows_which_version_of_the_teacher_is_learnt_from() -> None:
    running = entry(phase="distilling", teacher=TEACHER, figures={"teacher/version": 3.0})
    assert TEACHER in list(_remarks(running))
    tree = running.as_json()
    assert (tree["teacher"], tree["figures"]["teacher/version"]) == (TEACHER, 3.0)


def test_where_the_teacher_never_changes_nothing_is_said_of_it() -> None:
    assert list(_remarks(entry(phase="distilling"))) == []


COMMANDS = (
    ("status",),
    ("watch", "pong"),
    ("scale", "pong", "--env-runners", "2"),
    ("pause", "pong"),
    ("stop", "pong"),
)


@pytest.mark.parametrize("command", COMMANDS)
def test_without_a_cluster_there_is_one_line_that_says_what_to_do(
    command: tuple[str, ...], stillhouse: Stillhouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**options: Any) -> None:
        raise ConnectionError("Could not find any running Ray instance; set the `--address` flag")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray_connection.ray, "init", init)
    answer = stillhouse(*command)
    assert_refused(answer, "no Ray cluster is running here", "ray start --head", "run directory")
    assert "flag" not in answer.stderr
    assert_refused(stillhouse(*command, "--address", "ray://away"), "error: --address ray://away:")
    monkeypatch.setenv("RAY_ADDRESS", "ray://away")
    assert_refused(stillhouse(*command), "error: RAY_ADDRESS=ray://away:")


class FakeBoard:
    """Has one run, of which all is true at once."""

    cluster = "10.0.0.7:6379"

    def want(self, name: str, **changes: object) -> None:
        """Take every wish."""

    def wait(self, name: str, until: Callable[[Entry], bool], *, timeout_s: float) -> Entry:
        """Return what `until` waits for."""
        ended = entry(phase="stopped", env_runners=2, env_runners_wanted=2, paused=True)
        assert until(ended)
        return ended


@pytest.mark.parametrize("command", COMMANDS[2:])
def test_who_acts_on_a_run_and_gave_no_address_is_told_on_which_cluster(
    command: tuple[str, ...], stillhouse: Stillhouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray_connection.ray, "init", lambda **options: None)
    monkeypatch.setattr(ray_board, "BoardClient", FakeBoard)
    first, *rest = stillhouse(*command).stdout.splitlines()
    assert first == "on the cluster at 10.0.0.7:6379"
    assert rest
    there = stillhouse(*command, "--address", "ray://there").stdout.splitlines()
    assert there == rest
