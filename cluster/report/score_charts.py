"""The charts of scores: returns against the teacher's band, and what a score costs to run.

Data in, charts out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cluster.report.chart_style import (
    RANDOM,
    RANDOM_BAND,
    STUDENT,
    TEACHER,
    TEACHER_BAND,
    Chart,
    Figure,
    Label,
    Scale,
    layout,
    line,
    log_axis,
    plain,
    scale_of,
)
from cluster.report.metrics_log import Curve, MetricsLog
from cluster.report.results import Played, TaskResult
from cluster.report.wording import number, short

COST_TITLES = {
    "bytes": "bytes of the weights",
    "parameters": "parameters",
    "multiply_adds": "multiply-adds of one action",
    "latency_ms": "latency of one action, ms",
}
"""What a policy costs, by the names of `evaluation.json`."""


SAME_COST, SAME_PLACE = 1.1, 0.04
"""Points lie on one another that are nearer: by a factor, and as a share of the plot's height."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A policy in a chart of score against cost."""

    name: str
    cost: float
    score: float
    """Per cent."""
    low: float | None = None
    high: float | None = None


def return_charts(
    log: MetricsLog, tasks: Sequence[str], results: Mapping[str, TaskResult]
) -> list[Chart]:
    """Return a chart of every task's return.

    Args:
        log: of the run.
        tasks: the names of all.
        results: the scores of those that have any.
    """
    if len(tasks) < 2:
        found = [return_chart(log, next(iter(results.values()), None))]
    else:
        found = [return_chart(log, results.get(name), task=name) for name in tasks]
    return [chart for chart in found if chart is not None]


def return_chart(log: MetricsLog, result: TaskResult | None, *, task: str = "") -> Chart | None:
    """Return the student's return while it learned, against its teacher's band and random play.

    Args:
        log: of the run.
        result: the task's scores, where the run has them.
        task: which of several; "" where there is one.
    """
    part = f"{task}/" if task else ""
    curve = log.over_steps(f"student/{part}training_return")
    result = result or TaskResult()
    teacher = result.teacher or _told(log, f"teacher/{part}return")
    random = result.random or _told(log, f"random/{part}return")
    final = result.student
    steps = log.last("learner/env_steps")
    if steps is None or (not len(curve) and final is None):
        return None
    bands = [
        ("teacher", teacher, TEACHER, TEACHER_BAND),
        ("random", random, RANDOM, RANDOM_BAND),
    ]
    known = [(name, played, ink, fill) for name, played, ink, fill in bands if played is not None]
    traces, labels = list[Figure](), list[Label]()
    for name, played, ink, fill in known:
        traces += _band(name, played, ink, fill, 0.0, steps)
        labels.append(Label(name, ink, played.mean_return))
    if len(curve):
        traces.append(line(curve, "student, in training", STUDENT))
        labels.append(Label("student", STUDENT, float(curve.y[-1])))
    if final is not None:
        traces.append(_scored(final, steps))
        if not len(curve):
            labels.append(Label("student", STUDENT, final.mean_return))
    ends = [e for _, p, _, _ in known for e in (p.mean_return, p.ci_low, p.ci_high)]
    ends += [] if final is None else [final.mean_return, final.ci_low, final.ci_high]
    values = [value for value in (*ends, *curve.y.tolist()) if value is not None]
    figure = {
        "data": traces,
        "layout": layout(
            x_title="env steps", y_title="return", scale=scale_of(values), labels=labels
        ),
    }
    return Chart(
        name=f"return-{task}" if task else "return",
        title=f"Return in {task}" if task else "Return",
        summary=_returns({name: played for name, played, _, _ in known}, curve, final),
        figure=figure,
    )


def cost_chart(
    points: Sequence[Point], cost: str, *, score_title: str, include: Sequence[float] = (100.0,)
) -> Chart | None:
    """Return scores with their intervals against what the policies cost.

    Args:
        points: policies of a known cost; the teacher is called "teacher" or "teachers".
        cost: one of `COST_TITLES`.
        score_title: what the score is.
        include: scores that the axis shall hold.
    """
    if not points:
        return None
    ends = [e for p in points for e in (p.score, p.low, p.high) if e is not None]
    tight = scale_of(ends, include=include)
    room = 0.1 * (tight.high - tight.low)  # for names above and below
    scale = Scale(tight.low - room, tight.high + room)
    ordered = _grouped(sorted(points, key=lambda point: point.cost), scale)
    traces = [_point(point, index) for index, point in enumerate(ordered)]
    drawn = layout(x_title="", y_title=score_title, scale=scale)
    low, high = ordered[0].cost, ordered[-1].cost
    reach = max(2.5, (high / low) ** 0.3)  # room for names beside the outermost points
    drawn["xaxis"] |= log_axis(low / reach, high * reach, most_ticks=4)
    drawn |= {"hovermode": "closest", "margin": drawn["margin"] | {"r": 14}}
    told = (f"{p.name} {number(p.score, 1)} % at {short(p.cost)}" for p in points)
    return Chart(
        name=f"cost-{cost}",
        title=COST_TITLES[cost].capitalize(),
        summary=f"{score_title} against {COST_TITLES[cost]}: {'; '.join(told)}.",
        figure={"data": traces, "layout": drawn},
    )


def _grouped(points: Sequence[Point], scale: Scale) -> list[Point]:
    """Return the points with one name where several lie on one another."""
    groups: list[list[Point]] = []
    for point in points:
        for group in groups:
            near = point.cost < SAME_COST * group[0].cost
            if near and abs(scale.place(point.score) - scale.place(group[0].score)) < SAME_PLACE:
                group.append(point)
                break
        else:
            groups.append([point])
    return [replace(group[0], name=", ".join(p.name for p in group)) for group in groups]


def _returns(known: Mapping[str, Played], curve: Curve, final: Played | None) -> str:
    """Say what the chart of returns shows."""
    told = [f"{name} {number(played.mean_return)}" for name, played in known.items()]
    if len(curve):
        told.append(f"student in training from {short(curve.y[0])} to {short(curve.y[-1])}")
    if final is not None:
        told.append(f"student as scored in the end {number(final.mean_return)}")
    return f"Mean returns: {'; '.join(told)}."


def _told(log: MetricsLog, name: str) -> Played | None:
    value = log.last(name)
    return None if value is None else Played(mean_return=value)


def _band(
    name: str, played: Played, ink: str, fill: str, start: float, stop: float
) -> list[Figure]:
    """Return a horizontal line with its interval behind it."""
    mean = played.mean_return
    traces: list[Figure] = []
    if played.ci_low is not None and played.ci_high is not None:
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": [start, stop, stop, start],
                "y": [played.ci_low, played.ci_low, played.ci_high, played.ci_high],
                "fill": "toself",
                "fillcolor": fill,
                "line": {"width": 0, "color": ink},
                "hoverinfo": "skip",
                "name": f"{name}, 95 % interval",
            }
        )
    level = Curve(np.array([start, stop]), np.array([mean, mean]))
    return [*traces, line(level, name, ink, dash="dash") | {"mode": "lines"}]


def _scored(final: Played, steps: float) -> Figure:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "student, as scored in the end",
        "x": [steps],
        "y": [final.mean_return],
        "marker": {"color": STUDENT, "size": 11, "symbol": "diamond"},
        "error_y": _error(final.mean_return, final.ci_low, final.ci_high, STUDENT),
        "cliponaxis": False,
        "hovertemplate": "%{y:.4~g}",
    }


def _point(point: Point, index: int) -> Figure:
    is_teacher = point.name in ("teacher", "teachers")
    colour = TEACHER if is_teacher else STUDENT
    text = plain(point.name)
    return {
        "type": "scatter",
        "mode": "markers+text",
        "name": text,
        "x": [point.cost],
        "y": [point.score],
        "text": [text],
        # Names of neighbours stand on different sides.
        "textposition": "bottom center" if index % 2 else "top center",
        "textfont": {"color": colour},
        "marker": {"color": colour, "size": 10, "symbol": "square" if is_teacher else "circle"},
        "error_y": _error(point.score, point.low, point.high, colour),
        "cliponaxis": False,
        "hovertemplate": "%{text}: %{y:.4~g} % at %{x:.4~s}<extra></extra>",
    }


def _error(mean: float, low: float | None, high: float | None, colour: str) -> Figure:
    if low is None or high is None:
        return {"visible": False}
    return {
        "type": "data",
        "symmetric": False,
        "array": [high - mean],
        "arrayminus": [mean - low],
        "color": colour,
        "thickness": 1.5,
        "width": 5,
    }
