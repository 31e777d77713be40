"""Charts are plain values that plotly takes as they are, and say in words what they show."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from cluster.report.chart_style import DARK, LABEL_GAP, Chart, Label, Scale, layout, scale_of
from cluster.report.curves import (
    course_charts,
    likeness_chart,
    loss_chart,
    throughput_chart,
    waiting_chart,
    who_waited,
)
from cluster.report.metrics_log import MAX_POINTS, MetricsLog, read_metrics
from cluster.report.results import read_results
from cluster.report.score_charts import Point, cost_chart, return_chart
from tests.cluster.report.made_runs import evaluation, metrics


def log_of(lines: list[dict[str, float]]) -> MetricsLog:
    return read_metrics("\n".join(map(json.dumps, lines)).encode())


LOG = log_of(metrics(50))
TASKS = log_of(metrics(50, "light", "heavy"))
RESULT = read_results(evaluation()).tasks["CartPole-v1"]
POINTS = [
    Point(name="teacher", cost=1e6, score=100.0),
    Point(name="student", cost=1e5, score=98.0, low=96.0, high=100.0),
]


def all_charts() -> list[Chart]:
    found = [
        *course_charts(LOG, terms=["kl"], tasks=["CartPole-v1"]),
        *course_charts(TASKS, terms=["kl"], tasks=["light", "heavy"]),
        return_chart(LOG, RESULT),
        return_chart(LOG, None),
        return_chart(TASKS, None, task="light"),
        return_chart(log_of([{"learner/env_steps": 5}]), RESULT),
        cost_chart(POINTS, "bytes", score_title="share"),
    ]
    return [chart for chart in found if chart is not None]


@pytest.mark.parametrize("chart", all_charts(), ids=lambda chart: chart.name)
def test_plotly_takes_every_chart_as_it_is(chart: Chart) -> None:
    assert json.loads(json.dumps(chart.figure, allow_nan=False)) == chart.figure
    go.Figure(chart.figure)
    assert chart.title
    assert chart.summary.endswith(".")


def test_a_run_of_one_task_and_of_two_have_their_charts() -> None:
    names = [chart.name for chart in course_charts(LOG, terms=["kl"], tasks=["CartPole-v1"])]
    assert names == ["loss", "likeness", "lag", "throughput", "waiting"]
    both = [chart.name for chart in course_charts(TASKS, terms=["kl"], tasks=["light", "heavy"])]
    assert both == ["loss", "loss-by-task", "likeness", "lag", "throughput", "waiting"]


@pytest.mark.parametrize("lines", [[], [{}], [{"learner/env_steps": 3.0}]])
def test_without_figures_there_are_no_charts(lines: list[dict[str, float]]) -> None:
    assert course_charts(log_of(lines), terms=["kl"], tasks=[]) == []
    assert return_chart(log_of(lines), None) is None


def test_the_terms_of_a_sum_are_told_apart() -> None:
    lines = [line | {"learner/value": 0.5, "learner/loss": 0.7} for line in metrics(9)]
    chart = loss_chart(log_of(lines), terms=["kl", "value", "absent"])
    assert chart is not None
    assert [trace["name"] for trace in chart.figure["data"]] == ["sum", "kl", "value"]
    assert len({trace["line"]["dash"] for trace in chart.figure["data"]}) == 3


def test_boxes_are_compared_by_distance() -> None:
    lines = [{"learner/env_steps": i, "learner/action_error": 0.1 / (1 + i)} for i in range(9)]
    chart = likeness_chart(log_of(lines), tasks=[])
    assert chart is not None
    assert chart.figure["data"][0]["y"][0] == pytest.approx(10.0)


def test_the_teachers_band_spans_its_interval_and_the_run() -> None:
    chart = return_chart(LOG, RESULT)
    assert chart is not None
    band = chart.figure["data"][0]
    assert (min(band["y"]), max(band["y"])) == (490.0, 500.0)
    assert (min(band["x"]), max(band["x"])) == (0.0, 200.0 * 49)
    assert "teacher 500.00" in chart.summary


def test_long_curves_are_thinned() -> None:
    chart = loss_chart(log_of(metrics(3_000)), terms=["kl"])
    assert chart is not None
    assert len(chart.figure["data"][0]["x"]) <= MAX_POINTS + 2


@pytest.mark.parametrize(
    ("learner", "actors", "told"),
    [(0.4, 0.0, "collecting set"), (0.0, 0.4, "training set"), (0.01, 0.02, "neither held")],
)
def test_it_says_who_waited(learner: float, actors: float, told: str) -> None:
    log = log_of([{"learner/wait_share": learner, "actor/wait_share": actors}])
    assert told in who_waited(log)


def test_speeds_far_apart_get_a_logarithmic_axis() -> None:
    def axis(samples: float) -> str:
        lines = [
            {"time/elapsed_s": i, "actor/env_steps_per_s": 100, "learner/samples_per_s": samples}
            for i in range(9)
        ]
        chart = throughput_chart(log_of(lines))
        assert chart is not None
        return str(chart.figure["layout"]["yaxis"]["type"])

    assert (axis(200.0), axis(1_600.0)) == ("linear", "log")


def test_a_store_that_nobody_waited_for_is_not_drawn() -> None:
    chart = waiting_chart(LOG)
    assert chart is not None
    assert [trace["name"] for trace in chart.figure["data"]] == ["learner", "env runners"]


def test_labels_keep_apart_and_inside() -> None:
    labels = [Label(str(index), "#000", 0.99 + index / 1_000) for index in range(6)]
    drawn = layout(x_title="x", y_title="y", scale=Scale(0.0, 1.0), labels=labels)
    places = [note["y"] for note in drawn["annotations"][1:]]
    assert np.diff(places).min() >= LABEL_GAP - 1e-4
    assert max(places) <= 1.0


@pytest.mark.parametrize(
    ("values", "log"), [([], False), ([3.0], False), ([3.0], True), ([0.0, -1.0], True)]
)
def test_an_axis_always_has_room(values: list[float], log: bool) -> None:
    scale = scale_of(values, log=log)
    assert scale.high > scale.low
    assert all(0 < scale.place(value) < 1 for value in values if not log or value > 0)


def _strings(value: Any, take: Callable[[str], None]) -> None:
    if isinstance(value, str):
        take(value)
    for child in (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    ):
        _strings(child, take)


def test_every_colour_has_one_for_the_dark() -> None:
    seen: set[str] = set()
    for chart in all_charts():
        _strings(chart.figure, seen.add)
    colours = {text for text in seen if text.startswith(("#", "rgb"))} - {"rgba(0,0,0,0)"}
    assert colours <= DARK.keys()
    assert len(colours) > 5


def test_points_on_one_another_share_a_name() -> None:
    near = [Point(name=str(i), cost=1_000 + i, score=50.0 + i / 10) for i in range(3)]
    far = [Point(name="3", cost=1_000, score=90.0), Point(name="4", cost=9_000, score=50.0)]
    chart = cost_chart([*near, *far], "bytes", score_title="share")
    assert chart is not None
    assert [trace["name"] for trace in chart.figure["data"]] == ["0, 1, 2", "3", "4"]


def test_names_are_text_to_plotly() -> None:
    hostile = "<a href='javascript:alert(1)'>x</a>"
    chart = cost_chart([Point(name=hostile, cost=1.0, score=1.0)], "bytes", score_title="share")
    assert chart is not None
    assert "<a" not in json.dumps(chart.figure)
