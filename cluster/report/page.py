"""One page out of what a run directory tells: everything in it, nothing fetched.

plotly.js and all data are part of the file, and its content policy forbids everything else. What a
recipe, a policy or an environment names is text to the templates, which escape it.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from cluster.report.cards import cards_of
from cluster.report.chart_style import DARK, Chart
from cluster.report.curves import course_charts, who_waited
from cluster.report.games import MOST_BYTES
from cluster.report.repeat import repeat_commands
from cluster.report.results import Cost, Results, TaskResult
from cluster.report.run_data import RunData
from cluster.report.score_charts import COST_TITLES, Point, cost_chart, return_charts
from cluster.report.tables import (
    Table,
    chart_table,
    cost_table,
    has_costs,
    score_table,
    version_table,
)
from cluster.report.verdict import USUAL_SHARE, judge_run
from cluster.report.wording import (
    compared,
    count,
    duration,
    milliseconds,
    moment,
    num_bytes,
    number,
    percent,
    percent_interval,
    together,
)


class KeyFigure(NamedTuple):
    """A figure that a reader looks for first."""

    label: str
    value: str
    detail: str


class ShareBar(NamedTuple):
    """A share with its interval and what it is held against; places in per cent of the width."""

    task: str
    text: str
    place: float
    low: float
    high: float
    teacher: float
    required: float


def render_report(run: RunData) -> str:
    """Return the report of a run as HTML."""
    results, tasks = run.results, run.tasks
    charts = return_charts(run.metrics, tasks, {} if results is None else results.tasks)
    charts += course_charts(run.metrics, terms=run.terms, tasks=tasks)
    costs = [] if results is None else cost_charts(_cost_points(results), results)
    learning = {"loss", "loss-by-task", "likeness"}
    return render(
        "report.html",
        [*charts, *costs],
        run=run,
        judgement=judge_run(run),
        figures_first=[] if results is None else _key_figures(results),
        bars=[] if results is None else _share_bars(results, run.required_share),
        facts=_facts(run),
        scores=[] if results is None else [score_table(*pair) for pair in results.tasks.items()],
        costs=_costs(results),
        cost_charts=costs,
        learning=[c for c in charts if c.name in learning or c.name.startswith("return")],
        machinery=[c for c in charts if c.name in ("lag", "throughput", "waiting")],
        waited=who_waited(run.metrics),
        disagreements=[(name, each, cards_of(each)) for name, each in run.disagreements.items()],
        most_video=num_bytes(MOST_BYTES),
        versions=version_table(run.starts),
        commands=repeat_commands(run.path, is_local=run.is_local),
    )


def render(template: str, charts: Iterable[Chart], **context: Any) -> str:
    """Return a page with charts as HTML.

    Args:
        template: its name.
        charts: whose figures it shows; their names are parts of its ids.
        context: what the template names.
    """
    figures = {chart.name: chart.figure for chart in charts}
    page = _templates().get_template(f"{template}.j2")
    return page.render(
        figures=figures, dark=DARK, plotly=plotly_source() if figures else "", **context
    )


def plotly_source() -> str:
    """Return plotly.js."""
    from plotly.offline import get_plotlyjs  # takes a moment that only pages with charts need

    source: str = get_plotlyjs()
    return source


def cost_charts(points: Mapping[str, list[Point]], results: Results) -> list[Chart]:
    """Return the charts of score against everything that a policy costs."""
    played = any(task.student for task in results.tasks.values())
    title = "share of the teacher, %" if played else "same greedy action, %"
    if len(results.tasks) > 1:
        title = f"lowest {title}"  # of all tasks; more words would be cut off
    found = (
        cost_chart(own, cost, score_title=title, include=(0.0, 100.0))
        for cost, own in points.items()
    )
    return [chart for chart in found if chart is not None]


def percent_score(share: float, task: TaskResult) -> tuple[float, float | None, float | None]:
    """Return a task's share of the teacher with its interval, in per cent."""
    low, high = (None if e is None else 100 * e for e in (task.share_ci_low, task.share_ci_high))
    return 100 * share, low, high


def score_of(task: TaskResult) -> tuple[float, float | None, float | None] | None:
    """Return a student's share with its interval, or how often it acts like its teacher, or None.

    In per cent.
    """
    if task.share_of_teacher is not None:
        return percent_score(task.share_of_teacher, task)
    if task.student is None and task.greedy_agreement is not None:
        return 100 * task.greedy_agreement, None, None
    return None


def _cost_points(results: Results) -> dict[str, list[Point]]:
    """Return teacher and student, in the weakest task, in every chart of score against cost."""
    many = len(results.tasks) > 1
    task = results.lowest[1] if results.lowest is not None else next(iter(results.tasks.values()))
    found: dict[str, list[Point]] = {}
    for cost in COST_TITLES:
        teacher, student = getattr(results.teacher, cost), getattr(results.student, cost)
        if teacher and student and (score := score_of(task)) is not None:
            mean, low, high = score
            found[cost] = [
                Point(name="teachers" if many else "teacher", cost=teacher, score=100.0),
                Point(name="student", cost=student, score=mean, low=low, high=high),
            ]
    return found


def _key_figures(results: Results) -> list[KeyFigure]:
    student, teacher = results.student, results.teacher
    found = []
    if results.lowest is not None:
        name, task = results.lowest
        label = "share of the teacher" + (f" in {name}" if len(results.tasks) > 1 else "")
        between = percent_interval(task.share_ci_low, task.share_ci_high)
        found.append(KeyFigure(label, percent(task.share_of_teacher), f"95 %: {between}"))
    if len(results.tasks) == 1:
        (task,) = results.tasks.values()
        if task.greedy_agreement is not None:
            among = task.states_compared or (task.held_out and task.held_out.transitions)
            detail = f"in {count(among)} states" if among else ""
            found.append(KeyFigure("same greedy action", percent(task.greedy_agreement), detail))
    size = compared(student.bytes, teacher.bytes, "smaller", "larger", "like the teacher")
    if size is not None:
        found.append(KeyFigure("size of the weights", num_bytes(student.bytes), size))
    speed = compared(student.latency_ms, teacher.latency_ms, "faster", "slower", "like the teacher")
    if speed is not None:
        found.append(KeyFigure("time for an action", milliseconds(student.latency_ms), speed))
    return found


def _share_bars(results: Results, required: float | None) -> list[ShareBar]:
    required = USUAL_SHARE if required is None else required
    shown = {n: t for n, t in results.tasks.items() if t.share_of_teacher is not None}
    ends = [e for t in shown.values() for e in (t.share_of_teacher, t.share_ci_high) if e]
    widest = max([1.05, required, *ends])

    def place(share: float | None, otherwise: float) -> float:
        share = otherwise if share is None else share
        return round(100 * min(1.0, max(0.0, share / widest)), 2)

    return [
        ShareBar(
            task=name,
            text=percent(task.share_of_teacher),
            place=place(task.share_of_teacher, 0.0),
            low=place(task.share_ci_low, task.share_of_teacher or 0.0),
            high=place(task.share_ci_high, task.share_of_teacher or 0.0),
            teacher=place(1.0, 1.0),
            required=place(required, required),
        )
        for name, task in shown.items()
    ]


def _facts(run: RunData) -> list[tuple[str, str]]:
    """Return what kind of run it was, and what went wrong on its way."""
    metrics, found = run.metrics, [("run directory", run.path), ("tasks", ", ".join(run.tasks))]
    if run.state.first is not None:
        first, last = (moment(time) for time in (run.state.first, run.state.last or ""))
        found.append(("first and last word of its log, UTC", f"{first} and {last}"))
    if (steps := metrics.last("learner/env_steps")) is not None:
        found.append(("env steps trained on", count(steps)))
    if (samples := metrics.last("learner/samples")) is not None:
        found.append(("samples trained on", count(samples)))
    if run.seconds:
        found.append(("time of distillation", duration(run.seconds)))
    for label, key in (
        ("restarts", "cluster/restarts"),
        ("env steps lost", "cluster/lost"),
        ("gradient steps skipped", "learner/skipped_steps"),
    ):
        if value := metrics.last(key):
            found.append((label, number(value, 0)))
    return found


def _costs(results: Results | None) -> Table | None:
    known: list[Cost] = [] if results is None else [results.student, results.teacher]
    return cost_table(results) if results is not None and any(map(has_costs, known)) else None


@lru_cache(maxsize=1)
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("cluster.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "chart_table": chart_table,
        "count": count,
        "number": number,
        "num_bytes": num_bytes,
        "percent": percent,
        "together": together,
    }
    return environment
