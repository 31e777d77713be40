"""Several students side by side: a row for each task of each run."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.markup import escape
from rich.table import Table as ScreenTable

from cluster.report.page import percent_score, render
from cluster.report.results import Cost, TaskResult
from cluster.report.run_data import RunData, read_run
from cluster.report.score_charts import COST_TITLES, Point, cost_chart
from cluster.report.settings import Settings, differing, settings_table, settings_text
from cluster.report.tables import Table
from cluster.report.wording import (
    count,
    duration,
    milliseconds,
    num_bytes,
    number,
    percent,
    percent_interval,
    short,
)
from common.errors import RunDirectoryError
from common.storage import Named, locate

HEAD = (
    "student",
    "share of the teacher",
    "95 % interval",
    "games",
    "return",
    "same action",
    "parameters",
    "multiply-adds",
    "bytes",
    "latency",
    "env steps",
    "time",
)


SCREEN_HEAD = (
    "student",
    "share of the teacher",
    "games",
    "return",
    "same action",
    "bytes",
    "mult-adds",
    "latency",
)

OF_LATENCIES = "Latencies were measured in each run, at different times."


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A student in a task."""

    name: str
    """Told apart from all others."""
    run: str
    """The name without that of the task."""
    run_dir: str
    settings: Settings
    """Of its recipe, those in which the recipes of the runs differ."""
    task: str
    state: str
    """As `cluster.report.run_state` has it."""
    result: TaskResult | None
    """None where the run was not evaluated."""
    student: Cost
    teacher: Cost
    env_steps: int | None
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Return what programs read, with the keys of `evaluation.json`."""
        return {
            "name": self.name,
            "run_dir": self.run_dir,
            "settings": self.settings,
            "task": self.task,
            "state": self.state,
            "scores": None if self.result is None else self.result.model_dump(),
            "student": self.student.model_dump(),
            "teacher": self.teacher.model_dump(),
            "env_steps": self.env_steps,
            "seconds": self.seconds,
        }

    def cells(self) -> tuple[str, ...]:
        """Return what stands in a table under `HEAD`."""
        task, cost = self.result or TaskResult(), self.student
        share = percent(task.share_of_teacher)
        if self.result is None:
            share = {"open": "not ended", "stopped": "stopped", "failed": "failed"}[self.state]
        return (
            self.name,
            share,
            percent_interval(task.share_ci_low, task.share_ci_high),
            count(None if task.student is None else task.student.episodes),
            number(None if task.student is None else task.student.mean_return),
            percent(task.greedy_agreement),
            count(cost.parameters),
            count(cost.multiply_adds),
            num_bytes(cost.bytes),
            milliseconds(cost.latency_ms),
            count(self.env_steps),
            duration(self.seconds) if self.seconds else "–",
        )

    def screen_cells(self) -> tuple[str, ...]:
        """Return what stands in a terminal's table under `SCREEN_HEAD`, which has less room."""
        name, share, between, games, played, same, *_, weights, latency, _, _ = self.cells()
        adds = self.student.multiply_adds
        with_interval = share if between == "–" else f"{share} ({between.removesuffix(' %')})"
        return (
            name,
            with_interval,
            games,
            played,
            same,
            weights,
            "–" if adds is None else short(adds),
            latency,
        )


def read_rows(paths: Sequence[Named]) -> list[Row]:
    """Read runs to compare.

    Args:
        paths: run directories, or folders of sweeps, which stand for all of their runs.

    Raises:
        RunDirectoryError: there is neither in one of these places.
        StorageError: one of them cannot be read.
    """
    named: list[tuple[str | None, RunData]] = []
    for path in paths:
        for name, place in _runs_at(path):
            named.append((name, read_run(place)))
    settings = differing([run.recipe for _, run in named])
    rows = []
    for (_, run), name, own in zip(named, _told_apart(named), settings, strict=True):
        rows += _rows_of(run, name, own)
    return rows


def _told_apart(named: Sequence[tuple[str | None, RunData]]) -> list[str]:
    """Return what each run is called: its name, else its folder's, else its path, as none other."""
    choices = [(name or run.name, locate(run.path).name, run.path) for name, run in named]
    taken = [Counter(kind) for kind in zip(*choices, strict=True)]
    return [
        next((name for name, times in zip(own, taken, strict=True) if times[name] == 1), own[-1])
        for own in choices
    ]


def _runs_at(path: Named) -> list[tuple[str | None, Named]]:
    """Return the runs of a sweep with their names, or the one that is there."""
    sweep = locate(path) / "sweep.json"
    if not sweep.is_file():
        return [(None, path)]
    try:
        candidates = json.loads(sweep.read_bytes())["candidates"]
        return [(str(each["name"]), str(each["run_dir"])) for each in candidates]
    except (ValueError, LookupError, TypeError):
        raise RunDirectoryError(
            f"{sweep}: damaged; name the runs of the sweep one by one"
        ) from None


def _rows_of(run: RunData, name: str, settings: Settings) -> list[Row]:
    results = run.results
    tasks = run.tasks
    steps = run.metrics.last("learner/env_steps")
    return [
        Row(
            name=f"{name}, {task}" if len(tasks) > 1 else name,
            run=name,
            run_dir=run.path,
            settings=settings,
            task=task,
            state=run.state.state,
            result=None if results is None else results.tasks[task],
            student=Cost() if results is None else results.student,
            teacher=Cost() if results is None else results.teacher,
            env_steps=None if steps is None else int(steps),
            seconds=run.seconds,
        )
        for task in tasks
    ]


def screen_table(rows: Sequence[Row]) -> ScreenTable:
    """Return the rows for a terminal."""
    table = ScreenTable(caption=OF_LATENCIES)
    for name in SCREEN_HEAD:
        is_name = name == "student"
        table.add_column(name, justify="left" if is_name else "right", overflow="fold")
    for row in rows:
        table.add_row(*row.screen_cells())
    return table


def screen_settings(rows: Sequence[Row]) -> ScreenTable | None:
    """Return where the runs' recipes differ for a terminal, or None where they do not."""
    named = _settings_by_run(rows)
    if not any(named.values()):
        return None
    table = ScreenTable("student", "where the recipes differ", show_lines=True)
    for run, settings in named.items():
        table.add_row(escape(run), escape(settings_text(settings)))
    return table


def render_comparison(rows: Sequence[Row]) -> str:
    """Return the comparison as a page."""
    charts = []
    numbered = [
        (f"{index}\N{NO-BREAK SPACE}· {name}", *others)
        for index, (name, *others) in enumerate((row.cells() for row in rows), start=1)
    ]
    for cost in COST_TITLES:
        chart = cost_chart(_points(rows, cost), cost, score_title="share of the teacher, %")
        if chart is not None:
            charts.append(chart)
    return render(
        "compare.html",
        charts,
        cost_charts=charts,
        table=Table(caption="Students", head=HEAD, rows=tuple(numbered)),
        settings=settings_table(_settings_by_run(rows)),
        of_latencies=OF_LATENCIES,
        places=[(row.name, row.run_dir) for row in rows],
    )


def _settings_by_run(rows: Sequence[Row]) -> dict[str, Settings]:
    return {row.run: row.settings for row in rows}


def _points(rows: Sequence[Row], cost: str) -> list[Point]:
    """Return the students that played, by their numbers in the table."""
    found = []
    for index, row in enumerate(rows, start=1):
        value = getattr(row.student, cost)
        if row.result is None or row.result.share_of_teacher is None or not value:
            continue
        mean, low, high = percent_score(row.result.share_of_teacher, row.result)
        found.append(Point(name=str(index), cost=value, score=mean, low=low, high=high))
    return found
