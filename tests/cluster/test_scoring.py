import io
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from actors.evaluator import EvaluationResult
from cluster.scoring import Scores
from common.statistics import bootstrap_mean, share_of_teacher
from learners.footprint import Footprint


def played(*returns: float, **changes: Any) -> EvaluationResult:
    fields: dict[str, Any] = {
        "returns": returns,
        "lengths": (100,) * len(returns),
        "num_compared": 0,
        "greedy_agreement": None,
        "value_error": None,
        "value_scale": None,
        "observations": np.zeros((0, 4), np.float32),
    }
    return EvaluationResult(**(fields | changes))


TEACHER_PRINT = Footprint(
    parameters=1_687_206, multiply_adds=9_344_352, bytes=6_749_264, latency_ms=1.234567
)
STUDENT_PRINT = Footprint(
    parameters=111_222, multiply_adds=2_666_000, bytes=445_328, latency_ms=0.456789
)
SCORES = Scores(
    task="pong",
    teacher=played(21.0, 20.0, 20.0, 21.0),
    student=played(20.0, 19.0, 21.0, num_compared=1_234, greedy_agreement=0.987),
    random=played(-21.0, -20.0, -21.0, -20.0),
    teacher_footprint=TEACHER_PRINT,
    student_footprint=STUDENT_PRINT,
    acting="greedy, ε = 0",
)
NO_BETTER_THAN_RANDOM = replace(SCORES, teacher=SCORES.random)
WITH_VALUES = replace(
    SCORES,
    student=played(
        20.0, 19.0, num_compared=9, greedy_agreement=1.0, value_error=0.01234, value_scale=0.5678
    ),
)
LARGE = replace(
    SCORES,
    task="A rather long name of a task of your own-v0",
    teacher=played(-123_456.78, -98_765.43),
    student=played(-123_456.78, -98_765.43),
    random=played(-999_999.99, -888_888.88),
)


def test_evaluation_json_has_the_keys_that_programs_read() -> None:
    tree = SCORES.as_json()
    assert set(tree) == {"tasks", "student", "teacher"}
    (task,) = tree["tasks"].values()
    for name in ("teacher", "student", "random"):
        assert set(task[name]) == {"mean_return", "ci_low", "ci_high", "episodes"}
    assert set(task) >= {"share_of_teacher", "share_ci_low", "share_ci_high", "greedy_agreement"}
    for name in ("teacher", "student"):
        assert set(tree[name]) == {"parameters", "multiply_adds", "bytes", "latency_ms"}


@pytest.mark.parametrize("scores", [SCORES, NO_BETTER_THAN_RANDOM, WITH_VALUES, LARGE])
def test_evaluation_json_is_json_to_the_last_digit(scores: Scores) -> None:
    tree = scores.as_json()
    assert json.loads(json.dumps(tree, allow_nan=False)) == tree


def test_evaluation_json_tells_the_truth() -> None:
    tree = SCORES.as_json()
    task = tree["tasks"]["pong"]
    expected = bootstrap_mean([20.0, 19.0, 21.0])
    assert task["student"] == {
        "mean_return": 20.0,
        "ci_low": expected.ci_low,
        "ci_high": expected.ci_high,
        "episodes": 3,
    }
    assert (task["teacher"]["mean_return"], task["random"]["mean_return"]) == (20.5, -20.5)
    assert task["share_of_teacher"] == pytest.approx(40.5 / 41.0)
    assert task["share_ci_low"] < task["share_of_teacher"] < task["share_ci_high"]
    assert (task["greedy_agreement"], task["states_compared"]) == (0.987, 1_234)
    assert task["acting"] == "greedy, ε = 0"
    assert (task["value_error"], task["value_scale"]) == (None, None)
    assert tree["teacher"]["parameters"] == 1_687_206
    assert tree["student"]["latency_ms"] == 0.456789


def test_the_share_is_the_students_of_its_teachers() -> None:
    assert SCORES.share == share_of_teacher(
        SCORES.student.returns, SCORES.teacher.returns, SCORES.random.returns
    )


def test_a_share_that_has_no_meaning_is_null() -> None:
    assert NO_BETTER_THAN_RANDOM.share is None
    (task,) = NO_BETTER_THAN_RANDOM.as_json()["tasks"].values()
    for name in ("share_of_teacher", "share_ci_low", "share_ci_high"):
        assert task[name] is None
    assert task["student"]["mean_return"] == 20.0


def rendered(scores: Scores, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(scores.table())
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("scores", [SCORES, NO_BETTER_THAN_RANDOM, WITH_VALUES, LARGE])
def test_the_table_fits_the_screen_and_nothing_is_cut(scores: Scores, width: int) -> None:
    text = rendered(scores, width)
    assert "…" not in text
    assert max(len(line) for line in text.splitlines()) <= width
    words = " ".join(text.replace("│", " ").split())
    for figure in ("1,687,206", "111,222", "9,344,352", "2,666,000", "1.235 ms", "0.457 ms"):
        assert figure in words
    for name, interval in scores.intervals().items():
        assert name in words
        assert f"{interval.mean:.2f}" in words


def test_the_table_tells_share_and_agreement() -> None:
    share = SCORES.share
    assert share is not None
    text = rendered(SCORES, 120)
    assert f"98.8 % ({100 * share.ci_low:.1f} to {100 * share.ci_high:.1f})" in text
    assert "98.7 %" in text
    assert "undefined (teacher no better than random)" in rendered(NO_BETTER_THAN_RANDOM, 120)
    nothing_compared = replace(SCORES, student=played(1.0, 2.0))
    assert "unknown" in rendered(nothing_compared, 120)


def test_the_table_tells_value_errors_where_there_are_values() -> None:
    assert "0.0123 (spread 0.568)" in rendered(WITH_VALUES, 120)
    assert "value error" not in rendered(SCORES, 120)


def test_box_actions_have_an_error_and_no_agreement() -> None:
    student = played(20.0, 19.0, num_compared=9, action_error=0.0123)
    scores = replace(SCORES, student=student)
    task = scores.as_json()["tasks"]["pong"]
    assert (task["greedy_agreement"], task["action_error"]) == (None, 0.0123)
    console = Console(file=io.StringIO(), width=120)
    console.print(scores.table())
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "1.2 % of half the range" in text
    assert "same greedy action" not in text
