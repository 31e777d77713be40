"""The charts of a run's course, from its figures alone: data in, charts out.

A chart is only there where its figures are: runs from a dataset play nothing, old ones lack some.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cluster.report.chart_style import (
    DASHES,
    SERIES,
    Chart,
    Label,
    Scale,
    layout,
    line,
    scale_of,
)
from cluster.report.metrics_log import Curve, MetricsLog, stretched
from cluster.report.wording import percent, short

STEPS = "env steps"
MINUTES = "minutes of distillation"
SHARES = Scale(-3.0, 103.0)
"""Per cent, of time or of samples."""

LOG_FROM = 20.0
"""Losses that differ by such a factor are drawn on a logarithmic axis."""

LAG_STRETCHES = 60
"""Of time, over which the policy lag is summed up."""

APART = 6.0
"""And so are two speeds whose medians do."""


class _Drawn(NamedTuple):
    """A curve of a chart, and what it is called there."""

    name: str
    curve: Curve


def course_charts(log: MetricsLog, *, terms: Sequence[str], tasks: Sequence[str]) -> list[Chart]:
    """Return the charts of learning and of the machinery, as far as there are figures.

    Args:
        log: of the run.
        terms: of its objective.
        tasks: the names of several; empty or one where there is one.
    """
    charts = [
        loss_chart(log, terms=terms),
        *(loss_by_task(log, tasks=tasks) if len(tasks) > 1 else ()),
        likeness_chart(log, tasks=tasks),
        lag_chart(log),
        throughput_chart(log),
        waiting_chart(log),
    ]
    return [chart for chart in charts if chart is not None]


def loss_chart(log: MetricsLog, *, terms: Sequence[str]) -> Chart | None:
    """Return the objective's terms and their weighted sum."""
    parts = [_Drawn(term, log.over_steps(f"learner/{term}")) for term in terms]
    parts = [part for part in parts if len(part.curve)]
    total = _Drawn("sum", log.over_steps("learner/loss"))
    drawn = [total, *parts] if len(parts) > 1 else parts or [total._replace(name="loss")]
    return _chart("loss", "Loss", drawn, x=STEPS, y="loss, running mean", log=_spans(drawn))


def loss_by_task(log: MetricsLog, *, tasks: Sequence[str]) -> list[Chart]:
    """Return the loss of every task in one chart; nothing where it was not told apart."""
    drawn = [_Drawn(task, log.over_steps(f"learner/{task}/loss")) for task in tasks]
    log_axis = _spans(drawn)
    chart = _chart("loss-by-task", "Loss by task", drawn, x=STEPS, y="loss", log=log_axis)
    return [] if chart is None else [chart]


def likeness_chart(log: MetricsLog, *, tasks: Sequence[str]) -> Chart | None:
    """Return how like its teacher the student acts on what it trains on."""
    for key, title, y, scale in (
        ("agreement", "Agreement with the teacher", "same greedy action, %", SHARES),
        (
            "action_error",
            "Distance from the teacher",
            "mean action error, % of half the range",
            None,
        ),
    ):
        if len(tasks) > 1:
            drawn = [_Drawn(task, log.over_steps(f"learner/{task}/{key}")) for task in tasks]
        else:
            drawn = [_Drawn("student", log.over_steps(f"learner/{key}"))]
        drawn = [_Drawn(name, _times(curve, 100.0)) for name, curve in drawn]
        chart = _chart("likeness", title, drawn, x=STEPS, y=y, scale=scale, unit=" %")
        if chart is not None:
            return chart
    return None


def lag_chart(log: MetricsLog) -> Chart | None:
    """Return how many versions of the student the oldest env runner was behind.

    It jumps with every version, so what is drawn are the mean and the most over stretches of time.
    """
    curve = _in_minutes(log, "actor/policy_lag_versions")
    drawn = [
        _Drawn(name, stretched(curve, reduce, LAG_STRETCHES))
        for name, reduce in (("mean", np.mean), ("most", np.max))
    ]
    return _chart(
        "lag", "Policy lag", drawn, x=MINUTES, y="versions behind the learner", include=(0.0, 1.0)
    )


def throughput_chart(log: MetricsLog) -> Chart | None:
    """Return the speeds of collecting and training."""
    drawn = [
        _Drawn("collected", _in_minutes(log, "actor/env_steps_per_s")),
        _Drawn("trained on", _in_minutes(log, "learner/samples_per_s")),
    ]
    return _chart(
        "throughput",
        "Throughput",
        drawn,
        x=MINUTES,
        y="transitions or samples a second",
        log=_apart([each.curve for each in drawn]),
        include=(0.0,),
    )


def waiting_chart(log: MetricsLog) -> Chart | None:
    """Return who waited for whom."""
    names = {
        "learner": "learner/wait_share",
        "env runners": "actor/wait_share",
        "for room": "actor/store_wait_share",
    }
    drawn = [_Drawn(name, _times(_in_minutes(log, key), 100.0)) for name, key in names.items()]
    if not any(drawn[-1].curve.y):
        del drawn[-1]  # the object store never kept anybody waiting
    return _chart(
        "waiting", "Who waited for whom", drawn, x=MINUTES, y="% of time", scale=SHARES, unit=" %"
    )


def who_waited(log: MetricsLog) -> str:
    """Say in one sentence what held the run up; "" where nobody knows."""
    learner, actors = log.mean("learner/wait_share"), log.mean("actor/wait_share")
    if learner is None or actors is None:
        return ""
    told = (
        f"On average the learner waited for data {percent(learner, 0)} of its time, env runners "
        f"for the learner {percent(actors, 0)} of theirs"
    )
    if max(learner, actors) < 0.1:
        return f"{told}: neither held the other up."
    slower = "collecting" if learner > actors else "training"
    return f"{told}: {slower} set the pace."


def _chart(
    name: str,
    title: str,
    drawn: Sequence[_Drawn],
    *,
    x: str,
    y: str,
    scale: Scale | None = None,
    unit: str = "",
    log: bool = False,
    include: Sequence[float] = (),
) -> Chart | None:
    """Return a chart of curves, or None where there is nothing to draw."""
    known = [each for each in drawn if len(each.curve)]
    if not known:
        return None
    values = [value for each in known for value in each.curve.y.tolist()]
    scale = scale or scale_of(values, log=log, include=() if log else include)
    colours = {each.name: SERIES[i % len(SERIES)] for i, each in enumerate(known)}
    traces = [
        line(each.curve, each.name, colours[each.name], dash=DASHES[i % len(DASHES)], unit=unit)
        for i, each in enumerate(known)
    ]
    labels = [Label(_cut(e.name), colours[e.name], float(e.curve.y[-1])) for e in known]
    figure = {"data": traces, "layout": layout(x_title=x, y_title=y, scale=scale, labels=labels)}
    ends = {each.name: (each.curve.y[0], each.curve.y[-1]) for each in known}
    return Chart(name=name, title=title, summary=_summary(ends, y, unit), figure=figure)


def _summary(ends: Mapping[str, tuple[float, float]], y: str, unit: str) -> str:
    told = (f"{name} from {short(a)}{unit} to {short(b)}{unit}" for name, (a, b) in ends.items())
    return f"{y}: {'; '.join(told)}."


def _spans(drawn: Sequence[_Drawn]) -> bool:
    """Whether values lie so far apart that only a logarithmic axis shows all of them."""
    known = [value for each in drawn for value in each.curve.y.tolist() if value > 0]
    return bool(known) and max(known) > LOG_FROM * min(known)


def _apart(curves: Sequence[Curve]) -> bool:
    """Whether whole curves lie so far apart."""
    usual = [float(np.median(curve.y)) for curve in curves if len(curve)]
    return len(usual) > 1 and min(usual) > 0 and max(usual) > APART * min(usual)


def _in_minutes(log: MetricsLog, name: str) -> Curve:
    curve = log.over_time(name)
    return Curve(curve.x / 60, curve.y)


def _times(curve: Curve, factor: float) -> Curve:
    return Curve(curve.x, factor * curve.y)


def _cut(text: str, most: int = 14) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
