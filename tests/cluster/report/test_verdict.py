from pathlib import Path
from typing import Any

import pytest

from cluster.report.results import read_results
from cluster.report.run_data import read_run
from cluster.report.verdict import Judgement, judge_results, judge_run
from tests.cluster.report.made_runs import (
    COSTS,
    evaluation,
    log_line,
    metrics,
    task_scores,
    write_made_run,
)


def judged(required: float | None = 0.95, **tasks: dict[str, Any]) -> Judgement:
    return judge_results(read_results(evaluation(**tasks)), required=required, says_recipe=True)


@pytest.mark.parametrize(
    ("share", "required", "level", "headline"),
    [
        (0.98, 0.95, "good", "Good enough"),
        (0.96, 0.95, "unsure", "Good enough, but not for certain"),
        (0.94, 0.95, "unsure", "Not good enough, but close"),
        (0.90, 0.95, "bad", "Not good enough"),
        (0.98, None, "good", "Good enough"),
    ],
)
def test_the_verdict_holds_the_share_against_what_is_required(
    share: float, required: float | None, level: str, headline: str
) -> None:
    found = judged(required, toy=task_scores(share))
    assert (found.level, found.headline) == (level, headline)
    low, high = (f"{100 * (share + d):.1f}" for d in (-0.02, 0.02))
    assert f"{100 * share:.1f} % (95 % interval {low} to {high} %) of its teacher" in found.sentence
    assert "15 times smaller and 3.0 times faster" in found.sentence


def test_the_weakest_task_counts() -> None:
    found = judged(easy=task_scores(1.0), hard=task_scores(0.5))
    assert found.level == "bad"
    assert "In the weakest of 2 tasks, hard, the student reaches 50.0 %" in found.sentence
    assert "Beside its 2 teachers together" in found.sentence


@pytest.mark.parametrize(("share", "doubts"), [(1.23, True), (1.21, False), (1.0, False)])
def test_a_student_that_is_certainly_much_better_is_told_to_be(share: float, doubts: bool) -> None:
    found = judged(toy=task_scores(share))
    assert found.headline == "Good enough"
    question = " The student plays better than its teacher: is this the teacher you meant?"
    assert found.sentence.endswith(question) is doubts


@pytest.mark.parametrize(
    ("share", "agreement", "is_told"),
    [(0.98, 0.48, True), (0.98, 0.81, False), (0.98, None, False), (0.5, 0.48, False)],
)
def test_a_student_that_plays_well_in_a_way_of_its_own_is_told_to(
    share: float, agreement: float | None, is_told: bool
) -> None:
    found = judged(toy=task_scores(share, greedy_agreement=agreement))
    words = "The student takes its teacher's greedy action in only 48.0 % of the states: its return"
    assert (words in found.sentence) is is_told
    assert not is_told or found.sentence.endswith("like its teacher.")


def test_of_several_tasks_those_are_named_in_which_the_student_is_better() -> None:
    found = judged(easy=task_scores(2.3), hard=task_scores(0.5))
    assert "better than its teacher in easy: is this" in found.sentence


def test_a_share_that_is_undefined_decides_nothing() -> None:
    none = {"share_of_teacher": None, "share_ci_low": None, "share_ci_high": None}
    found = judged(toy=task_scores(**none))
    assert (found.level, found.headline) == ("open", "No verdict")
    assert "not measurably better than random play" in found.sentence


def test_held_out_labels_alone_are_told_as_such() -> None:
    held_out = {"transitions": 5_107, "greedy_agreement": 0.998}
    found = judged(toy={"greedy_agreement": 0.998, "held_out": held_out})
    assert (found.level, found.headline) == ("open", "Not played")
    assert "greedy action in 99.8 % of 5,107 states" in found.sentence


def test_scores_of_an_old_version_without_intervals_and_sizes() -> None:
    results = read_results(
        {"tasks": {"toy": {"student": {"mean_return": 1}, "share_of_teacher": 1}}}
    )
    found = judge_results(results, required=None, says_recipe=False)
    assert found.headline == "Good enough"
    assert "100.0 % of its teacher (the recipe requires nothing" in found.sentence
    assert "What it costs was not measured." in found.sentence


def test_a_student_that_is_larger_and_slower_is_said_to_be() -> None:
    tree = evaluation() | {"student": COSTS["teacher"], "teacher": COSTS["student"]}
    found = judge_results(read_results(tree), required=None, says_recipe=False)
    assert "15 times larger and 3.0 times slower" in found.sentence


@pytest.mark.parametrize(
    ("log", "told"),
    [
        (log_line("the run ends"), "The run was stopped at 9,800 of 10,000 env steps (98 %)."),
        (log_line("the run failed: NaN", "error"), "The run failed (NaN) at 9,800 of 10,000"),
        ("", "The run has not ended, or was killed at 9,800"),
    ],
)
def test_an_unfinished_run_has_no_verdict_and_says_why(log: str, told: str, tmp_path: Path) -> None:
    found = judge_run(read_run(write_made_run(tmp_path, log=log)))
    assert (found.level, found.headline) == ("open", "No verdict")
    assert told in found.sentence
    assert "came to about 98 % of its teacher's return" in found.sentence


def test_a_run_that_just_began_has_nothing_to_say(tmp_path: Path) -> None:
    found = judge_run(read_run(write_made_run(tmp_path, lines=metrics(0))))
    assert "before its first env step" in found.sentence
