"""The first sentence of a report: is the student good enough, how much smaller and faster is it?"""

from dataclasses import dataclass
from typing import Literal

from cluster.report.results import Results, TaskResult
from cluster.report.run_data import RunData
from cluster.report.wording import compared, count, percent, percent_interval

USUAL_SHARE = 0.95
"""What a student is held against where its recipe requires nothing."""

WELL_ABOVE = 1.2
"""A share that no student of a good teacher reaches: there is not so much left to win."""

OWN_WAY = 0.8
"""A student that takes its teacher's greedy action less often plays a game of its own."""

Level = Literal["good", "unsure", "bad", "open"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Whether a student is good enough."""

    level: Level
    headline: str
    """In a few words."""
    sentence: str
    """The reasons, with figures."""


def judge_run(run: RunData) -> Judgement:
    """Judge a run by its scores, or say why there are none."""
    if run.results is None or not run.results.tasks:
        return Judgement(level="open", headline="No verdict", sentence=_unfinished(run))
    own = run.required_share
    return judge_results(run.results, required=own, says_recipe=own is not None)


def judge_results(results: Results, *, required: float | None, says_recipe: bool) -> Judgement:
    """Judge scores.

    Args:
        results: the scores.
        required: share of the teacher that makes a student good enough; None: the usual one.
        says_recipe: whether the recipe asks for it.
    """
    required = USUAL_SHARE if required is None else required
    if not any(task.student for task in results.tasks.values()):
        return Judgement(level="open", headline="Not played", sentence=_by_labels(results))
    if results.lowest is None:
        return Judgement(
            level="open",
            headline="No verdict",
            sentence="The teacher is not measurably better than random play, so a share of its "
            f"return means nothing. {_costs(results)}",
        )
    name, task = results.lowest
    level, headline = _level(task, required)
    source = "its recipe requires" if says_recipe else "the recipe requires nothing; held against"
    held = f"{source} {percent(required, 0)}"
    reached = f"The student reaches {_share(task)} of its teacher"
    if len(results.tasks) > 1:
        reached = (
            f"In the weakest of {len(results.tasks)} tasks, {name}, the student reaches "
            f"{_share(task)} of its teacher"
        )
    return Judgement(
        level=level,
        headline=headline,
        sentence=f"{reached} ({held}). {_costs(results)}{_following(results)}",
    )


def remarks(results: Results) -> list[str]:
    """Return what its share of the teacher does not tell of a student, a clause each."""
    return [told for told in (_doubt_of_teacher(results), _own_way(results)) if told is not None]


def _doubt_of_teacher(results: Results) -> str | None:
    """Return what to ask where a student certainly plays much better than its teacher, or None."""
    beaten = [
        name
        for name, task in results.tasks.items()
        if task.share_ci_low is not None and task.share_ci_low > WELL_ABOVE
    ]
    if not beaten:
        return None
    where = _in(beaten, results)
    return f"the student plays better than its teacher{where}: is this the teacher you meant?"


def _own_way(results: Results) -> str | None:
    """Return how rarely a student that plays well enough does what its teacher would, or None."""
    unlike = {
        name: task.greedy_agreement
        for name, task in results.tasks.items()
        if (share := task.share_of_teacher) is not None
        and share >= USUAL_SHARE
        and task.greedy_agreement is not None
        and task.greedy_agreement < OWN_WAY
    }
    if not unlike:
        return None
    rarely = " and ".join(percent(agreement) for agreement in unlike.values())
    return (
        f"the student takes its teacher's greedy action in only {rarely} of the states"
        f"{_in(list(unlike), results)}: its return tells how well it plays, not that it plays "
        f"like its teacher"
    )


def _in(names: list[str], results: Results) -> str:
    """Name tasks where there are several."""
    return f" in {' and '.join(names)}" if len(results.tasks) > 1 else ""


def _level(task: TaskResult, required: float) -> tuple[Level, str]:
    share, low, high = task.share_of_teacher, task.share_ci_low, task.share_ci_high
    assert share is not None
    if share >= required:
        if low is not None and low < required:
            return "unsure", "Good enough, but not for certain"
        return "good", "Good enough"
    if high is not None and high >= required:
        return "unsure", "Not good enough, but close"
    return "bad", "Not good enough"


def _share(task: TaskResult) -> str:
    share = percent(task.share_of_teacher)
    if task.share_ci_low is None:
        return share
    between = percent_interval(task.share_ci_low, task.share_ci_high)
    return f"{share} (95 % interval {between})"


def _costs(results: Results) -> str:
    """Say how much smaller and faster the student is."""
    student, teacher = results.student, results.teacher
    size = compared(student.bytes, teacher.bytes, "smaller", "larger", "as large")
    speed = compared(student.latency_ms, teacher.latency_ms, "faster", "slower", "as fast")
    told = " and ".join(part for part in (size, speed) if part is not None)
    many = len(results.tasks) > 1
    teachers = f"its {len(results.tasks)} teachers together" if many else "its teacher"
    return f"Beside {teachers} it is {told}." if told else "What it costs was not measured."


def _following(results: Results) -> str:
    """Return the remarks as sentences that follow others."""
    sentences = (told if told.endswith("?") else f"{told}." for told in remarks(results))
    return "".join(f" {told[0].upper()}{told[1:]}" for told in sentences)


def _by_labels(results: Results) -> str:
    task = next(iter(results.tasks.values()))
    known = task.held_out or task
    if known.action_error is not None:
        like = f"its actions differ by {percent(known.action_error)} of half the range on average"
    else:
        like = f"it takes its teacher's greedy action in {percent(known.greedy_agreement)}"
    states = "" if task.held_out is None else f" of {count(task.held_out.transitions)} states"
    return (
        f"The student was scored on held-out labels only: {like}{states}. What it reaches in "
        f"play is not known. {_costs(results)}"
    )


def _unfinished(run: RunData) -> str:
    how = {
        "stopped": "The run was stopped",
        "failed": f"The run failed ({run.state.reason})" if run.state.reason else "The run failed",
        "open": "The run has not ended, or was killed",
        "evaluated": "The run's scores name no task",
    }[run.state.state]
    done, total = run.metrics.last("learner/env_steps"), run.total_env_steps
    far = "before its first env step"
    if done:
        far = f"at {count(done)}"
        far += (
            f" of {count(total)} env steps ({percent(done / total, 0)})" if total else " env steps"
        )
    share = run.metrics.last("student/share_of_teacher")
    so_far = (
        ""
        if share is None
        else f" In training, its student's last games came to about {percent(share, 0)} of its "
        f"teacher's return, exploration included."
    )
    go_on = " Its student was not scored."
    return f"{how} {far}.{go_on}{so_far}"
