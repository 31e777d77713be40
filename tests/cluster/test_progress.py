import io
import re
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console
from rich.table import Table

from cluster import progress as module
from cluster.progress import (
    PLAIN_INTERVAL_S,
    LiveReporter,
    PlainReporter,
    describe,
    make_reporter,
)

METRICS = {
    "learner/env_steps": 250_000.0,
    "learner/env_steps_per_s": 2_000.4,
    "learner/loss": 0.12345,
    "learner/wait_share": 0.256,
    "actor/wait_share": 0.044,
    "student/share_of_teacher": 0.876,
    "cluster/restarts": 2.0,
}


def table() -> Table:
    table = Table("teacher", "student")
    table.add_row("21.00", "20.50")
    return table


class Screen(io.StringIO):
    """A terminal: what is written moves its cursor and changes its lines."""

    def shown(self) -> list[str]:
        """Return the lines that a person sees now, and hold every sequence to be known."""
        lines, row, column = [""], 0, 0
        for token in re.findall(r"\x1b\[[?\d;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", self.getvalue()):
            if token == "\r":
                column = 0
            elif token == "\n":
                row, column = row + 1, 0
                lines += [""] * (row + 1 - len(lines))
            elif not token.startswith("\x1b"):
                line = lines[row].ljust(column)
                lines[row] = line[:column] + token + line[column + len(token) :]
                column += len(token)
            elif token.endswith("A"):
                row -= int(token[2:-1])
                assert row >= 0
            elif token == "\x1b[2K":
                lines[row] = ""
            else:  # colours, and hiding and showing the cursor
                assert token[-1] in "mhl", token
        return [line.rstrip() for line in lines if line.strip()]

    @property
    def cursor_is_hidden(self) -> bool:
        return self.getvalue().count("\x1b[?25l") > self.getvalue().count("\x1b[?25h")


@pytest.fixture
def screen() -> Screen:
    return Screen()


@pytest.fixture
def live(screen: Screen) -> LiveReporter:
    environ = {"TERM": "xterm-256color"}
    console = Console(file=screen, force_terminal=True, width=80, height=24, _environ=environ)
    reporter = make_reporter(console)
    assert isinstance(reporter, LiveReporter)
    return reporter


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=500.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture
def plain(clock: SimpleNamespace) -> PlainReporter:
    reporter = make_reporter(Console(file=io.StringIO(), width=80))
    assert isinstance(reporter, PlainReporter)
    return reporter


def printed(reporter: PlainReporter) -> list[str]:
    file = reporter._console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue().splitlines()


def test_plain_lines_tell_the_time_since_the_start(
    plain: PlainReporter, clock: SimpleNamespace
) -> None:
    plain.say("begins")
    clock.now += 61.6
    plain.say("goes on")
    assert printed(plain) == ["[     0 s] begins", "[    62 s] goes on"]


def test_a_plain_line_is_never_broken_or_read_as_markup(plain: PlainReporter) -> None:
    text = "a/long/path/" * 20 + "[bold]"
    plain.say(text)
    assert printed(plain) == [f"[     0 s] {text}"]


def test_plain_progress_is_told_at_once_and_then_every_ten_seconds(
    plain: PlainReporter, clock: SimpleNamespace
) -> None:
    for second in range(25):
        clock.now = 500.0 + second
        plain.progress("distil", second / 50, f"step {second}")
    assert PLAIN_INTERVAL_S == 10.0
    assert printed(plain) == [
        "[     0 s] distil 0 %: step 0",
        "[    10 s] distil 20 %: step 10",
        "[    20 s] distil 40 %: step 20",
    ]


def test_what_is_said_is_not_rate_limited(plain: PlainReporter) -> None:
    plain.progress("distil", 0.5, "half")
    for text in ("a", "b"):
        plain.say(text)
    plain.close()
    assert len(printed(plain)) == 3


def test_a_table_is_shown_plainly(plain: PlainReporter) -> None:
    plain.show(table())
    assert "20.50" in "\n".join(printed(plain))


def test_a_live_bar_leaves_nothing_behind(live: LiveReporter, screen: Screen) -> None:
    live.say("begins")
    for fraction in (0.0, 0.5, 1.0):
        live.progress("distil", fraction, f"at {100 * fraction:.0f} %")
    live.say("in between")
    live.close()
    assert screen.shown() == ["begins", "in between"]
    assert not screen.cursor_is_hidden


def test_a_live_bar_shows_the_newest_figures_once(live: LiveReporter, screen: Screen) -> None:
    live.say("begins")
    for number in range(4):
        live.progress("distil", number / 4, f"figures {number}")
    live._live.refresh()  # type: ignore[union-attr]  # what its thread does four times a second
    first, bar, figures = screen.shown()
    live.close()
    assert (first, figures) == ("begins", "figures 3")
    assert bar.startswith("distil")


def test_a_table_ends_the_bar(live: LiveReporter, screen: Screen) -> None:
    live.progress("distil", 0.5, "half")
    live.show(table())
    assert "half" not in "\n".join(screen.shown())
    assert "20.50" in "\n".join(screen.shown())


def test_a_bar_can_begin_again_and_be_closed_twice(live: LiveReporter, screen: Screen) -> None:
    streams = sys.stdout, sys.stderr
    for phase in ("teach", "distil"):
        live.progress(phase, 0.5, "half")
        live._live.refresh()  # type: ignore[union-attr]
        assert screen.shown()[0].startswith(phase)
        live.close()
        live.close()
    assert screen.shown() == []
    assert (sys.stdout, sys.stderr) == streams


def test_a_line_is_no_markup(live: LiveReporter, screen: Screen) -> None:
    live.say("[teach] [bold]")
    assert screen.shown() == ["[teach] [bold]"]


def test_a_distillation_is_described_in_one_line() -> None:
    assert describe(METRICS, total_env_steps=1_000_000) == (
        "250,000 of 1,000,000 env steps, 2,000/s, loss 0.1235, share of the teacher 88 %, "
        "waiting: learner 26 %, env runners 4 %, 2 restarts, 6 min 15 s left"
    )


def test_a_teacher_that_was_refreshed_is_told_with_its_version() -> None:
    found = describe(METRICS | {"teacher/version": 2.0}, total_env_steps=1_000_000)
    assert "share of the teacher 88 %, version 2 of the teacher, waiting" in found


def test_a_description_tells_only_what_is_known() -> None:
    assert describe({"learner/env_steps": 0.0}, total_env_steps=1_000) == (
        "0 of 1,000 env steps, waiting: learner 0 %, env runners 0 %"
    )


@pytest.mark.parametrize(
    ("done", "left"), [(940.0, "6 s"), (400.0, "1 min 0 s"), (1_000.0, "0 s"), (1_040.0, "0 s")]
)
def test_the_time_left_is_never_negative(done: float, left: str) -> None:
    metrics = {"learner/env_steps": done, "learner/env_steps_per_s": 10.0}
    assert describe(metrics, total_env_steps=1_000).endswith(f", {left} left")
