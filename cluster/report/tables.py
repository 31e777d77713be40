"""The tables of a report, as texts: scores by task, what policies cost, what a chart shows."""

from collections.abc import Callable
from dataclasses import dataclass

from cluster.report.chart_style import Chart
from cluster.report.results import Cost, Played, Results, TaskResult
from cluster.report.versions import Start
from cluster.report.wording import (
    compared,
    count,
    interval,
    milliseconds,
    moment,
    num_bytes,
    number,
    percent,
    percent_interval,
    short,
)

QUARTERS = ("start", "¼", "½", "¾", "end")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table; the first cell of a row is its heading."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def score_table(name: str, task: TaskResult) -> Table:
    """Return the scores of a task."""
    order = (task.teacher, task.student, task.random)
    rows: list[tuple[str, ...]] = []
    if played := any(order):
        rows.append(("mean return", *(number(_mean(p)) for p in order)))
        rows.append(("95 % interval", *(_interval(p) for p in order)))
        rows.append(("full games", *(count(None if p is None else p.episodes) for p in order)))
        undefined = task.share_of_teacher is None and task.student is not None
        share = "undefined" if undefined else percent(task.share_of_teacher)
        rows.append(("share of the teacher", "100 %", share, "0 %"))
        between = percent_interval(task.share_ci_low, task.share_ci_high)
        rows.append(("its 95 % interval", "", between, ""))
    for label, value in _likeness(task):
        rows.append((label, "", value, "") if played else (label, value))
    head = ("", "teacher", "student", "random") if played else ("", "student")
    acting = f" ({task.acting})" if task.acting else ""
    return Table(caption=f"{name}{acting}", head=head, rows=tuple(rows))


def _likeness(task: TaskResult) -> list[tuple[str, str]]:
    """Return what is said of a student only."""
    found = []
    if task.greedy_agreement is not None:
        found.append(("same greedy action", percent(task.greedy_agreement)))
    if task.action_error is not None:
        found.append(("mean action error, of half the range", percent(task.action_error, 2)))
    if task.value_error is not None and task.value_scale is not None:
        found.append(
            ("mean value error (spread)", f"{short(task.value_error)} ({short(task.value_scale)})")
        )
    if (held_out := task.held_out) is not None:
        found.append(("held out: states", count(held_out.transitions)))
        if held_out.greedy_agreement is not None:
            found.append(("held out: same greedy action", percent(held_out.greedy_agreement)))
        if held_out.kl is not None:
            found.append(("held out: KL", short(held_out.kl)))
    if task.onnx is not None and task.onnx.greedy_agreement is not None:
        like = f"{percent(task.onnx.greedy_agreement)} of {count(task.onnx.observations)}"
        found.append(("ONNX file: student's action", like))
    return found


def cost_table(results: Results) -> Table:
    """Return what teacher and student cost."""
    teacher, student = results.teacher, results.student
    many = len(results.tasks) > 1
    rows = (
        ("parameters", *_both(count, teacher.parameters, student.parameters, "fewer", "more")),
        (
            "multiply-adds",
            *_both(count, teacher.multiply_adds, student.multiply_adds, "fewer", "more"),
        ),
        ("bytes", *_both(num_bytes, teacher.bytes, student.bytes, "smaller", "larger")),
        (
            "latency",
            *_both(milliseconds, teacher.latency_ms, student.latency_ms, "faster", "slower"),
        ),
    )
    return Table(
        caption="One action of each, one CPU thread, float32",
        head=("", "teachers together" if many else "teacher", "student", "student is"),
        rows=rows,
    )


def has_costs(cost: Cost) -> bool:
    """Whether anything is known of what a policy costs."""
    return any(value is not None for _, value in cost)


def version_table(starts: tuple[Start, ...]) -> Table | None:
    """Return the versions of every start that had others than the one before, or None."""
    told = [s for i, s in enumerate(starts) if i == 0 or s.versions != starts[i - 1].versions]
    if not told:
        return None
    names = dict.fromkeys(name for start in told for name in start.versions)
    return Table(
        caption="Versions by start of the run (UTC)" if len(told) > 1 else "Versions",
        head=("", *(moment(start.time) for start in told)),
        rows=tuple((name, *(start.versions.get(name, "–") for start in told)) for name in names),
    )


def chart_table(chart: Chart) -> Table:
    """Return what a chart's lines show at five places, for those who do not see it."""
    rows = []
    for trace in chart.figure["data"]:
        values = trace["y"]
        if trace.get("hoverinfo") == "skip" or not values:
            continue
        last = len(values) - 1
        picked = (values[round(last * place / 4)] for place in range(5))
        rows.append((str(trace["name"]), *(short(value) for value in picked)))
    return Table(caption=chart.title, head=("", *QUARTERS), rows=tuple(rows))


def _both(
    text: Callable[[float | None], str],
    teacher: float | None,
    student: float | None,
    less: str,
    more: str,
) -> tuple[str, str, str]:
    told = compared(student, teacher, less, more, alike="as the teacher")
    return text(teacher), text(student), told or "–"


def _mean(played: Played | None) -> float | None:
    return None if played is None else played.mean_return


def _interval(played: Played | None) -> str:
    return "–" if played is None else interval(played.ci_low, played.ci_high)
