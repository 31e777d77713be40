"""What a run hears and says: status, wishes, and lines."""

from rich.table import Table

from cluster.board import LINES_KEPT, RunStatus, Wanted
from cluster.control import BoardReporter, Control


def control() -> Control:
    return Control(RunStatus(name="pong", run_dir="/runs/pong", task="Pong"))


class Inner:
    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def say(self, text: str) -> None:
        self.calls.append(("say", text))

    def show(self, table: Table) -> None:
        self.calls.append(("show", table))

    def progress(self, phase: str, fraction: float, text: str) -> None:
        self.calls.append(("progress", phase, fraction, text))

    def close(self) -> None:
        self.calls.append(("close",))


def test_reports_change_the_status_until_the_end() -> None:
    run = control()
    run.report(phase="distilling", env_steps=5)
    run.report(phase="finished")
    run.report(phase="failed", env_steps=6)
    assert (run.status.phase, run.status.env_steps) == ("finished", 5)


def test_a_stop_is_never_taken_back() -> None:
    run = control()
    run.want(Wanted(stop=True, num_env_runners=3))
    run.want(Wanted(num_env_runners=4))
    assert run.wanted == Wanted(stop=True, num_env_runners=4)


def test_what_a_reporter_is_told_reaches_the_status_and_the_screen() -> None:
    run, inner = control(), Inner()
    reporter = BoardReporter(run, inner)
    table = Table("policy", "return")
    table.add_row("student", "20.27")
    reporter.say("hello")
    reporter.progress("distil", 0.25, "fast")
    reporter.show(table)
    reporter.close()
    assert run.status.lines[0] == "hello"
    assert any("student" in line and "20.27" in line for line in run.status.lines)
    assert run.status.detail == "distil 25 %: fast"
    assert inner.calls == [
        ("say", "hello"),
        ("progress", "distil", 0.25, "fast"),
        ("show", table),
        ("close",),
    ]


def test_only_the_last_lines_are_kept_and_all_are_counted() -> None:
    run = control()
    for number in range(LINES_KEPT + 3):
        run.add_line(str(number))
    assert run.status.num_lines == LINES_KEPT + 3
    assert run.status.lines == tuple(map(str, range(3, LINES_KEPT + 3)))
