import pytest

from cluster.report.run_state import read_state
from tests.cluster.report.made_runs import log_line

START = log_line("the run starts")


@pytest.mark.parametrize(
    ("log", "state", "reason"),
    [
        ("", "open", ""),
        (START, "open", ""),
        (START + log_line("the run ends"), "stopped", ""),
        (START + log_line("stopping with a checkpoint; Ctrl-C again breaks off"), "stopped", ""),
        (START + log_line("the run failed: too much broke", "error"), "failed", "too much broke"),
        (
            START + log_line("the run was broken off", "error"),
            "failed",
            "it was broken off by Ctrl-C",
        ),
        (START + log_line("the run failed: x", "error") + START, "open", ""),
        (START + '{"time": "2026', "open", ""),
        ("[]\n{}\n3\n", "open", ""),
    ],
)
def test_the_log_tells_how_a_run_ended(log: str, state: str, reason: str) -> None:
    found = read_state(log, evaluated=False)
    assert (found.state, found.reason) == (state, reason)


def test_scores_say_that_it_came_to_its_end() -> None:
    assert read_state(START, evaluated=True).state == "evaluated"


def test_warnings_and_times_are_kept() -> None:
    log = START + log_line("slow disk", "warning", 5) + log_line("going on", second=9)
    found = read_state(log, evaluated=False)
    assert found.warnings == ("slow disk",)
    assert found.first == "2026-01-02T03:04:00.000+00:00"
    assert found.last == "2026-01-02T03:04:09.000+00:00"
