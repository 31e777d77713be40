"""How all charts look: colours for light and dark, axes, and labels at the lines themselves.

A figure is what plotly.js draws: `{"data": traces, "layout": layout}` of plain values. It is made
in the colours of a light page; `DARK` tells a page which colours stand for them in the dark. The
hues are told apart with every common colour blindness, and lines by their dashes as well.

plotly and not matplotlib: a chart follows the width of a phone and answers to a finger, the same
figure serves both themes and can be redrawn while a run goes on. It costs 4.5 MB a page.
"""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from cluster.report.metrics_log import Curve, thinned
from cluster.report.wording import short

Figure = dict[str, Any]

INK, MUTED, GRID = "#1f2328", "#57606a", "#dfe3e8"
STUDENT, TEACHER, RANDOM = "#0b5fae", "#a34f00", "#666e79"
STUDENT_BAND = "rgba(11,95,174,0.16)"
TEACHER_BAND = "rgba(163,79,0,0.18)"
RANDOM_BAND = "rgba(102,110,121,0.20)"

SERIES = ("#0b5fae", "#a34f00", "#00705a", "#8a3a80", "#6b5d00", "#666e79")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")

DARK = {
    INK: "#e8eaed",
    MUTED: "#a3acb7",
    GRID: "#343a42",
    STUDENT: "#62b5ff",
    TEACHER: "#ffb163",
    RANDOM: "#aab2bd",
    "#00705a": "#4fd3ab",
    "#8a3a80": "#e79cdc",
    "#6b5d00": "#e3d04f",
    STUDENT_BAND: "rgba(98,181,255,0.22)",
    TEACHER_BAND: "rgba(255,177,99,0.22)",
    RANDOM_BAND: "rgba(170,178,189,0.22)",
}
"""What takes each colour's place on a dark page."""

LABEL_GAP = 0.085
"""Between two labels, as a share of the plot's height."""

_CHARACTER_PX = 7.2
_MOST_MARGIN_PX = 122
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chart:
    """A figure and what it says, for those who do not see it."""

    name: str
    """Part of ids in a page."""
    title: str
    summary: str
    figure: Figure


class Label(NamedTuple):
    """A text at the right end of a line."""

    text: str
    colour: str
    y: float
    """In the axis' units."""


class Scale(NamedTuple):
    """The y axis."""

    low: float
    high: float
    log: bool = False

    def place(self, y: float) -> float:
        """Return where a value is, 0 at the bottom and 1 at the top."""
        if self.log:
            y, low, high = (np.log10(max(v, 1e-300)) for v in (y, self.low, self.high))
            return float((y - low) / (high - low))
        return (y - self.low) / (self.high - self.low)


def scale_of(values: Sequence[float], *, log: bool = False, include: Sequence[float] = ()) -> Scale:
    """Return an axis that holds all values with some room, and those to include.

    Args:
        values: finite; on a logarithmic axis, those above 0 count.
        log: whether it is logarithmic, if any value is above 0.
        include: further values that it shall hold.
    """
    known = [value for value in (*values, *include) if not log or value > 0]
    if not known:
        return Scale(0.0, 1.0)
    low, high = min(known), max(known)
    if log:
        low, high = (low / 1.5, high * 1.5) if high > low else (low / 3, high * 3)
        return Scale(low, high, log=True)
    room = 0.06 * (high - low) or max(1.0, abs(high)) * 0.1
    return Scale(low - room, high + room)


def line(curve: Curve, name: str, colour: str, *, dash: str = "solid", unit: str = "") -> Figure:
    """Return the trace of a curve, thinned."""
    shown = thinned(curve)
    return {
        "type": "scatter",
        "mode": "lines" if len(shown) > 2 else "lines+markers",
        "name": plain(name),
        "x": rounded(shown.x),
        "y": rounded(shown.y),
        "line": {"color": colour, "width": 2, "dash": dash},
        "marker": {"color": colour, "size": 6},
        "hovertemplate": f"%{{y:.4~g}}{unit}",
    }


def layout(*, x_title: str, y_title: str, scale: Scale, labels: Sequence[Label] = ()) -> Figure:
    """Return the layout of a chart whose lines are labelled at their right ends."""
    longest = max((len(label.text) for label in labels), default=0)
    low, high = scale.low, scale.high
    axis = {
        "gridcolor": GRID,
        "linecolor": GRID,
        "zeroline": False,
        "fixedrange": True,
        "tickfont": {"color": MUTED, "size": 12},
        "automargin": True,
    }
    return {
        "height": 250,
        "margin": {
            "l": 8,
            "r": min(_MOST_MARGIN_PX, 20 + round(_CHARACTER_PX * longest)),
            "t": 26,
            "b": 8,
        },
        "font": {"family": _FONT, "size": 12, "color": INK},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "showlegend": False,
        "dragmode": False,
        "hovermode": "x unified",
        "xaxis": axis | {"title": _title(x_title), "nticks": 6},
        "yaxis": axis
        | (
            log_axis(low, high)
            if scale.log
            else {"type": "linear", "range": [low, high], "nticks": 6}
        ),
        "annotations": [_y_title(y_title), *_placed(labels, scale)],
    }


def log_axis(low: float, high: float, most_ticks: int = 6) -> Figure:
    """Return what makes an axis logarithmic, with ticks that can be read: 1, 2, 5 or decades.

    Args:
        low: above 0.
        high: above `low`.
        most_ticks: so many at most.
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    decades = [10.0**power for power in range(first, last + 1)]
    ticks = [digit * decade for decade in decades for digit in (1, 2, 5)]
    ticks = [tick for tick in ticks if low <= tick <= high]
    if len(ticks) > most_ticks:
        ticks = [tick for tick in decades if low <= tick <= high]
        ticks = ticks[:: -(-len(ticks) // most_ticks)]
    return {
        "type": "log",
        "range": [math.log10(low), math.log10(high)],
        "tickvals": ticks,
        "ticktext": [short(tick).replace(" ", "") for tick in ticks],
    }


def plain(text: str) -> str:
    """Return a text as plotly shows it unchanged: plotly reads some HTML in all of its texts."""
    return html.escape(text, quote=False)


def rounded(values: Any) -> list[float]:
    """Return values with five digits: a page holds many of them."""
    return [float(f"{value:.5g}") for value in np.asarray(values).tolist()]


def _title(text: str) -> Figure:
    return {"text": text, "font": {"color": MUTED, "size": 12}, "standoff": 6}


def _y_title(text: str) -> Figure:
    """Return the y axis' title where it can be read: above the axis, upright."""
    return {
        "text": text,
        "xref": "paper",
        "yref": "paper",
        "x": 0,
        "y": 1,
        "xanchor": "left",
        "yanchor": "bottom",
        "yshift": 5,
        "showarrow": False,
        "font": {"color": MUTED, "size": 12},
    }


def _placed(labels: Sequence[Label], scale: Scale) -> list[Figure]:
    """Return labels at the right ends of their lines, moved apart where they would touch."""
    ordered = sorted(labels, key=lambda label: label.y)
    places: list[float] = []
    for label in ordered:
        place = min(1.0, max(0.0, scale.place(label.y)))
        places.append(max(place, places[-1] + LABEL_GAP) if places else place)
    highest = 1.0
    for index in reversed(range(len(places))):
        places[index] = min(places[index], highest)
        highest = places[index] - LABEL_GAP
    return [
        {
            "text": plain(label.text),
            "xref": "paper",
            "yref": "paper",
            "x": 1,
            "y": round(place, 4),
            "xanchor": "left",
            "yanchor": "middle",
            "xshift": 6,
            "showarrow": False,
            "align": "left",
            "font": {"color": label.colour, "size": 12},
        }
        for label, place in zip(ordered, places, strict=True)
    ]
