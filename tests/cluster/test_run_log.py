import json
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.table import Table

from cluster.on_ray.actor_logs import PACKAGES
from cluster.run_log import RunLog
from common.errors import RunFailedError
from tests.cartpole import load_config
from tests.disk import FULL, needs_full


class Screen:
    """A reporter that remembers what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.calls: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def show(self, table: Table) -> None:
        self.calls.append("show")

    def progress(self, phase: str, fraction: float, text: str) -> None:
        self.calls.append("progress")

    def close(self) -> None:
        self.calls.append("close")


class Bench:
    """A run's log and what it writes."""

    def __init__(self, folder: Path) -> None:
        self.screen = Screen()
        self.path = folder / "run" / "log.jsonl"
        self.path.parent.mkdir()
        self.log = RunLog(self.path, load_config(folder), self.screen)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def messages(self) -> list[str]:
        return [line["message"] for line in self.lines()]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_line_says_when_who_and_what(bench: Bench) -> None:
    with bench.log:
        bench.log.policy_version = 7
        logging.getLogger("learners.trainer").warning("%d bad steps", 3)
    start, line, _ = bench.lines()
    assert datetime.now(UTC) - datetime.fromisoformat(line.pop("time")) < timedelta(minutes=5)
    assert line == {
        "level": "warning",
        "run": "balance",
        "task": "CartPole-v1",
        "policy_version": 7,
        "actor": "controller",
        "logger": "learners.trainer",
        "message": "3 bad steps",
    }
    assert "policy_version" not in start


def test_what_the_reporter_says_is_written_and_said_once(bench: Bench) -> None:
    with bench.log:
        bench.log.say("50 % of nothing")
        bench.log.progress("distil", 0.5, "figures are in metrics.jsonl")
        bench.log.show(Table())
        bench.log.close()
    assert bench.messages() == ["the run starts", "50 % of nothing", "the run ends"]
    assert bench.screen.said == ["50 % of nothing"]
    assert bench.screen.calls == ["progress", "show", "close"]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_is_listened_to_and_its_warnings_are_shown(
    bench: Bench, package: str
) -> None:
    with bench.log:
        logging.getLogger(f"{package}.room").info("aside")
        logging.getLogger(f"{package}.room").warning("look out")
        logging.getLogger("elsewhere").warning("not ours")
    assert bench.messages()[1:-1] == ["aside", "look out"]
    assert bench.screen.said == ["warning: look out"]


def test_an_exception_is_written_in_one_line(bench: Bench) -> None:
    with bench.log:
        try:
            raise ValueError("odd")
        except ValueError:
            logging.getLogger("cluster.room").exception("it broke")
    line = bench.lines()[1]
    assert (line["level"], line["message"]) == ("error", "it broke")
    assert line["traceback"].endswith("ValueError: odd")


@pytest.mark.parametrize(
    ("error", "message", "traced"),
    [
        (RunFailedError("too much broke"), "the run failed: too much broke", False),
        (KeyboardInterrupt(), "the run was broken off", False),
        (ZeroDivisionError("a mistake of ours"), "the run failed", True),
    ],
)
def test_the_last_line_says_how_a_run_ended(
    bench: Bench, error: BaseException, message: str, traced: bool
) -> None:
    with pytest.raises(type(error)), bench.log:
        raise error
    last = bench.lines()[-1]
    assert (last["level"], last["message"]) == ("error", message)
    assert ("traceback" in last) == traced
    assert bench.screen.said == []  # the command line shows it


def test_nothing_is_listened_to_before_and_after(bench: Bench) -> None:
    levels = [logging.getLogger(name).level for name in PACKAGES]
    handlers = [list(logging.getLogger(name).handlers) for name in PACKAGES]
    logging.getLogger("cluster.room").warning("before")
    with bench.log:
        pass
    logging.getLogger("cluster.room").warning("after")
    assert bench.messages() == ["the run starts", "the run ends"]
    assert [logging.getLogger(name).level for name in PACKAGES] == levels
    assert [list(logging.getLogger(name).handlers) for name in PACKAGES] == handlers


@needs_full
def test_a_log_that_cannot_be_written_is_said_once_and_ends_nothing(bench: Bench) -> None:
    bench.path.symlink_to(FULL)
    with bench.log:
        bench.log.say("one")
        bench.log.say("two")
        bench.path.unlink()
        bench.log.say("three")
    path = bench.path
    assert bench.screen.said == [
        f"warning: {path} cannot be written (No space left on device); the run goes on without it",
        "one",
        "two",
        # the warning itself is lost too
        f"warning: {path} is written again; it lacks 4 records",
        "three",
    ]
    assert bench.messages() == [
        "three",
        f"{path} is written again; it lacks 4 records",
        "the run ends",
    ]
