"""`metrics.jsonl` as curves: columns, two clocks, and thinned to what a screen can show."""

import json
import math
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

ENV_STEPS = "learner/env_steps"
ELAPSED = "time/elapsed_s"

MAX_POINTS = 400
"""Of a curve in a chart: more cannot be told apart on a screen."""


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """A figure along one of the clocks, both [M]."""

    x: Floats
    y: Floats

    def __len__(self) -> int:
        """Return the number of points."""
        return self.x.size


NOTHING = Curve(np.empty(0), np.empty(0))


@dataclass(slots=True)
class MetricsLog:
    """The figures of a run, one row a line of its file."""

    columns: dict[str, "array[float]"] = field(default_factory=dict)
    """By name, NaN where a line does not have it."""
    num_rows: int = 0
    num_damaged: int = 0
    """Lines that are no JSON object: the last one of a run that was killed, say."""

    def add(self, line: bytes) -> None:
        """Take a line of the file."""
        try:
            self.add_figures(json.loads(line))
        except (ValueError, AttributeError, OverflowError):
            self.num_damaged += 1

    def add_figures(self, figures: Mapping[str, Any]) -> None:
        """Take the figures of one moment; what is no finite number is left out."""
        known = {
            name: float(value)
            for name, value in figures.items()
            if isinstance(value, int | float) and math.isfinite(value)
        }
        for name in known.keys() - self.columns.keys():
            self.columns[name] = array("d", [math.nan]) * self.num_rows
        for name, column in self.columns.items():
            column.append(known.get(name, math.nan))
        self.num_rows += 1

    def last(self, name: str) -> float | None:
        """Return a figure's newest value, or None where there is none."""
        column = self.columns.get(name, ())
        return next((value for value in reversed(column) if not math.isnan(value)), None)

    def mean(self, name: str) -> float | None:
        """Return a figure's mean over all lines that have it, or None where there is none."""
        values = self._column(name)
        values = values[~np.isnan(values)]
        return float(values.mean()) if values.size else None

    def names(self, prefix: str, suffix: str = "") -> list[str]:
        """Return the names that begin and end so, in the order of their appearance."""
        return [n for n in self.columns if n.startswith(prefix) and n.endswith(suffix)]

    def over_steps(self, name: str) -> Curve:
        """Return a figure over env steps.

        A run that goes on from a checkpoint takes some steps twice; the second time counts.
        """
        steps = self._column(ENV_STEPS)
        later = np.minimum.accumulate(np.nan_to_num(steps, nan=np.inf)[::-1])[::-1]
        kept = np.append(steps[:-1] <= later[1:], True) if steps.size else np.empty(0, np.bool_)
        return _curve(steps, self._column(name), kept)

    def over_time(self, name: str) -> Curve:
        """Return a figure over the seconds of all sessions, one after another."""
        seconds = self.seconds()
        return _curve(seconds, self._column(name), np.ones(seconds.size, np.bool_))

    def seconds(self) -> Floats:
        """Return the seconds of all sessions up to each line; a session starts at 0 again."""
        elapsed = np.nan_to_num(self._column(ELAPSED))
        ends = np.where(np.diff(elapsed) < 0, elapsed[:-1], 0.0)
        before: Floats = np.concatenate([[0.0], np.cumsum(ends)])[: elapsed.size]
        return elapsed + before

    def _column(self, name: str) -> Floats:
        column = self.columns.get(name)
        return np.full(self.num_rows, np.nan) if column is None else np.array(column)


def read_metrics(content: bytes) -> MetricsLog:
    """Return the figures of a `metrics.jsonl`; damaged lines are counted and left out."""
    log = MetricsLog()
    for line in content.splitlines():
        if line.strip():
            log.add(line)
    return log


def thinned(curve: Curve, max_points: int = MAX_POINTS) -> Curve:
    """Return a curve with fewer points and the same look: of every stretch its extremes.

    Args:
        curve: [M].
        max_points: at least 4; about so many are kept where there are more.
    """
    size = len(curve)
    if size <= max_points:
        return curve
    edges = np.linspace(0, size, max_points // 2, dtype=int)
    kept = {0, size - 1}
    for start, stop in pairwise(edges.tolist()):
        stretch = curve.y[start:stop]
        kept |= {int(start + stretch.argmin()), int(start + stretch.argmax())}
    places = sorted(kept)
    return Curve(curve.x[places], curve.y[places])


def stretched(curve: Curve, reduce: Callable[[Floats], Any], num_stretches: int) -> Curve:
    """Return a curve with one point for every stretch of it.

    Args:
        curve: [M].
        reduce: makes a number of a stretch's values.
        num_stretches: into how many it is cut, at most.
    """
    edges = np.unique(np.linspace(0, len(curve), num_stretches + 1, dtype=int)).tolist()
    places = [(curve.x[a:b].mean(), reduce(curve.y[a:b])) for a, b in pairwise(edges)]
    x, y = np.array(places).T if places else (np.empty(0), np.empty(0))
    return Curve(x, y)


def _curve(x: Floats, y: Floats, kept: npt.NDArray[np.bool_]) -> Curve:
    kept = kept & ~np.isnan(x) & ~np.isnan(y)
    return Curve(x[kept], y[kept])
