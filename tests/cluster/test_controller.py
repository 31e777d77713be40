"""How the controller ends a distillation, on a backend that does as it is told."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster import telemetry as telemetry_module
from cluster.board import Wanted
from common.errors import RunFailedError
from common.policies.policy import load_policy
from tests.cluster.controller_bench import (
    STATS,
    STUDENT,
    Bench,
    FakeBackend,
    FakeSession,
)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def nothing() -> None:
    pass


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def interrupt_twice() -> None:
    interrupt()
    interrupt()


def fail() -> None:
    raise RunFailedError("too much broke")


def test_a_finished_run_is_evaluated_exported_and_written_down(bench: Bench) -> None:
    session = FakeSession(nothing, num_polls=3)
    outcome = bench.run(session)
    assert outcome.finished
    assert session.calls == ["finish"]
    bench.assert_closed()
    assert len(bench.directory.metrics.read_text().splitlines()) == 3
    assert len(bench.backend.exported) == 3
    assert load_policy(bench.directory.student).spec == STUDENT.spec
    assert bench.directory.onnx.exists()
    evaluation = json.loads(bench.directory.evaluation.read_text())
    assert evaluation == outcome.evaluation
    assert evaluation["tasks"]["CartPole-v1"]["share_of_teacher"] == 1.0
    assert evaluation["onnx"]["greedy_agreement"] == 1.0
    assert "Good enough" in bench.directory.report.read_text()
    assert bench.directory.disagreements.exists()
    assert bench.directory.versions.exists()


def test_ctrl_c_saves_the_student_and_evaluates_nothing(bench: Bench) -> None:
    session = FakeSession(interrupt, num_polls=99)
    outcome = bench.run(session)
    assert (outcome.finished, outcome.evaluation) == (False, None)
    assert session.polls == 1
    assert session.calls == ["finish"]
    bench.assert_closed()
    assert load_policy(bench.directory.student).spec == STUDENT.spec
    assert not bench.directory.evaluation.exists()
    assert any("Ctrl-C again" in line for line in bench.reporter.said)
    assert "The run was stopped" in bench.directory.report.read_text()


def test_ctrl_c_twice_breaks_off_and_leaves_nothing_running(bench: Bench) -> None:
    session = FakeSession(interrupt_twice, num_polls=99)
    with pytest.raises(KeyboardInterrupt):
        bench.run(session)
    assert session.calls == ["abort"]
    bench.assert_closed()
    assert not bench.directory.student.exists()


def test_a_run_that_fails_leaves_nothing_running(bench: Bench) -> None:
    session = FakeSession(fail, num_polls=99)
    with pytest.raises(RunFailedError, match="too much broke"):
        bench.run(session)
    assert session.calls == ["abort"]
    bench.assert_closed()
    assert "The run failed (too much broke)" in bench.directory.report.read_text()


def test_a_session_that_does_not_start_leaves_nothing_open(bench: Bench) -> None:
    with pytest.raises(RunFailedError, match="nothing starts"):
        bench.run(None)
    bench.assert_closed()


def test_a_run_ends_when_its_time_is_over(bench: Bench) -> None:
    session = FakeSession(nothing, num_polls=99)
    assert bench.run(session, "stop.max_duration_s=1e-9").finished
    assert session.polls == 1
    assert "stop.max_duration_s = 1e-09 is reached" in bench.reporter.said


def test_a_run_ends_when_its_student_is_good_enough(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = FakeSession(nothing, num_polls=99)
    shares = iter([{}, {"student/share_of_teacher": 0.89}, {"student/share_of_teacher": 0.9}])
    monkeypatch.setattr(telemetry_module.Telemetry, "_student", lambda self: next(shares))
    assert bench.run(session, "stop.share_of_teacher=0.9").finished
    assert session.polls == 3


@pytest.mark.parametrize(
    ("by", "told"), [("share_of_teacher", ["share 0.5", "share 0.7"]), ("progress", [])]
)
def test_the_learner_is_told_what_its_student_reaches_where_a_schedule_goes_by_it(
    by: str, told: list[str], bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = FakeSession(nothing, num_polls=3)
    shares = iter([{}, {"student/share_of_teacher": 0.5}, {"student/share_of_teacher": 0.7}])
    monkeypatch.setattr(telemetry_module.Telemetry, "_student", lambda self: next(shares))
    weight = f"{{start = 1.0, end = 0.0, by = '{by}'}}"
    assert bench.run(session, f"objective.kl.weight={weight}").finished
    assert session.calls == [*told, "finish"]


@pytest.mark.parametrize(("required", "fails"), [(1.0, False), (1.01, True)])
def test_the_student_must_reach_what_the_recipe_requires(
    required: float, fails: bool, bench: Bench
) -> None:
    session = FakeSession(nothing, num_polls=1)
    override = f"evaluation.required_share={required}"
    if fails:
        with pytest.raises(RunFailedError, match=r"reaches 100.0 % .*required_share = 101 %"):
            bench.run(session, override)
    else:
        assert bench.run(session, override).finished
    assert bench.directory.evaluation.exists()


def test_warnings_are_told_before_anything_else(bench: Bench) -> None:
    bench.run(FakeSession(interrupt, num_polls=99))
    assert bench.reporter.said[0].startswith("note: the student (114 parameters) is not smaller")


@pytest.mark.parametrize("returns", [100.0, 230.0])
def test_a_student_that_is_much_better_than_its_teacher_is_remarked_on(
    returns: float, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeBackend, "student_plays", returns)
    bench.run(FakeSession(nothing, num_polls=1))
    doubts = [line for line in bench.reporter.said if "is this the teacher you meant?" in line]
    assert [line[:6] for line in doubts] == (["note: "] if returns > 100 else [])


def test_a_stop_that_is_wanted_saves_the_student_as_ctrl_c_does(bench: Bench) -> None:
    session = FakeSession(lambda: bench.control.want(Wanted(stop=True)), num_polls=99)
    outcome = bench.run(session)
    assert not outcome.finished
    assert (session.polls, session.calls) == (1, ["finish"])
    assert bench.control.status.phase == "stopped"
    assert load_policy(bench.directory.student).spec == STUDENT.spec


def test_what_is_wanted_is_told_to_the_session_once(bench: Bench) -> None:
    wishes = iter(
        [
            Wanted(num_env_runners=4),
            Wanted(num_env_runners=4),
            Wanted(num_env_runners=4, paused=True),
            Wanted(num_env_runners=1, paused=False),
        ]
    )
    session = FakeSession(lambda: bench.control.want(next(wishes, Wanted())), num_polls=6)
    bench.run(session)
    assert session.calls == ["scale 4", "pause True", "scale 1", "pause False", "finish"]


def test_the_status_follows_the_run_to_its_end(bench: Bench) -> None:
    seen: list[str] = []
    session = FakeSession(lambda: seen.append(bench.control.status.phase), num_polls=2)
    bench.run(session)
    status = bench.control.status
    assert seen == ["distilling", "distilling"]
    assert status.phase == "finished"
    assert "100.0 % of its teacher" in status.detail
    assert (status.env_steps, status.total_env_steps) == (100, 12_000)
    assert status.restarts == {"learner": 1}
    assert (status.env_runners_wanted, status.waiting_for) == (2, "1 CPU")
    assert status.figures["learner/loss"] == 0.5


def test_the_next_start_of_a_run_does_not_play_the_baseline_again(bench: Bench) -> None:
    bench.run(FakeSession(interrupt, num_polls=99))
    assert bench.backend.played == [None, "feedback"]
    bench.run(FakeSession(nothing, num_polls=1), "total_env_steps=13_000")
    assert bench.backend.played == ["student"]
    assert any("going on from the baseline" in line for line in bench.reporter.said)


def test_another_recipe_plays_its_own_baseline(bench: Bench) -> None:
    bench.run(FakeSession(interrupt, num_polls=99))
    bench.run(FakeSession(nothing, num_polls=1), "evaluation.num_episodes=4")
    assert bench.backend.played == [None, "feedback", "student"]


def test_an_unreadable_baseline_is_played_again(bench: Bench) -> None:
    bench.run(FakeSession(interrupt, num_polls=99))
    bench.directory.groundwork.write_text('{"about": ')
    bench.run(FakeSession(nothing, num_polls=1))
    assert bench.backend.played == [None, "feedback", "student"]


def log_of(bench: Bench) -> list[dict[str, Any]]:
    return [json.loads(line) for line in bench.directory.log.read_text().splitlines()]


def test_what_is_said_is_written_to_the_log(bench: Bench) -> None:
    bench.run(FakeSession(nothing, num_polls=2))
    log = log_of(bench)
    assert [line["message"] for line in log[1:-1]] == bench.reporter.said
    assert (log[0]["message"], log[-1]["message"]) == ("the run starts", "the run ends")
    assert "policy_version" not in log[0]
    assert log[-1]["policy_version"] == STATS.policy_version


def test_a_run_that_fails_says_so_in_its_log(bench: Bench) -> None:
    with pytest.raises(RunFailedError):
        bench.run(FakeSession(fail, num_polls=99))
    assert log_of(bench)[-1]["message"] == "the run failed: too much broke"


def test_a_standstill_is_said_written_and_exported(bench: Bench) -> None:
    """Nothing moves in this session, and no env runner reports."""
    bench.run(FakeSession(nothing, num_polls=3), "watchdog.after_s=1e-9")
    said = [line for line in bench.reporter.said if "standing still" in line]
    assert said
    warnings = [line["message"] for line in log_of(bench) if line["level"] == "warning"]
    assert said == [f"warning: {warning}" for warning in warnings]
    figures = [json.loads(line) for line in bench.directory.metrics.read_text().splitlines()]
    assert [line["cluster/standstill_s"] > 0 for line in figures] == [False, True, True]
    assert "standing still" in str(bench.control.status.stands_still)


def test_a_stopped_run_has_no_scores_of_a_former_student(bench: Bench) -> None:
    assert bench.run(FakeSession(nothing, num_polls=1)).finished
    assert bench.directory.evaluation.exists()
    assert not bench.run(FakeSession(interrupt, num_polls=99)).finished
    assert bench.directory.student.exists()
    assert not bench.directory.evaluation.exists()
    assert not bench.directory.onnx.exists()


@pytest.mark.parametrize("ends", [nothing, interrupt], ids=["finished", "stopped"])
def test_what_cannot_be_written_fails_the_run_when_all_else_is_done(
    ends: Callable[[], None], bench: Bench
) -> None:
    """The disk is full for one file; the last checkpoint did not find room either."""
    student = Path(bench.directory.student.path)

    def act() -> None:
        student.with_name("student.safetensors.partial").symlink_to("/dev/full")
        ends()

    session = FakeSession(act, num_polls=1 if ends is nothing else 99)
    session.unsaved = "checkpoints/step-3/learner.pt: cannot be written (No space left on device)"
    with pytest.raises(RunFailedError) as caught:
        bench.run(session)
    assert "\n" not in str(caught.value)
    for word in (session.unsaved, f"{student}: cannot be written", "stillhouse resume"):
        assert word in str(caught.value)
    bench.assert_closed()
    assert not student.exists()
    assert bench.directory.evaluation.exists() == (ends is nothing)
    assert bench.directory.onnx.exists() == (ends is nothing)
    assert bench.directory.report.exists()
