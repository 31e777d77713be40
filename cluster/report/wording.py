"""Figures as a person reads them: counts, shares, sizes, times, ratios."""

import math
import re

MINUS = "−"


def number(value: float | None, digits: int = 2) -> str:
    """Return a number with so many decimals, or "–" where there is none."""
    if value is None:
        return "–"
    return f"{value:,.{digits}f}".replace("-", MINUS)


def count(value: float | None) -> str:
    """Return a whole number with all of its digits."""
    return number(value, 0)


def short(value: float) -> str:
    """Return a number in about three digits: 1.69 M, 448 k, 0.201."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if abs(value) >= size:
            scaled = value / (1e3 if unit == " k" else size)
            return f"{scaled:.3g}{unit}".replace("-", MINUS)
    if value == int(value):
        return f"{int(value):,}".replace("-", MINUS)
    return f"{value:.3g}".replace("-", MINUS)


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share as per cent."""
    return "–" if share is None else f"{number(100 * share, digits)} %"


def interval(low: float | None, high: float | None, digits: int = 2) -> str:
    """Return an interval."""
    if low is None or high is None:
        return "–"
    return f"{number(low, digits)} to {number(high, digits)}"


def percent_interval(low: float | None, high: float | None) -> str:
    """Return an interval of shares as per cent."""
    if low is None or high is None:
        return "–"
    return f"{interval(100 * low, 100 * high, 1)} %"


def num_bytes(value: float | None) -> str:
    """Return a size."""
    if value is None:
        return "–"
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f} B"


def milliseconds(value: float | None) -> str:
    """Return a time that is given in milliseconds."""
    return "–" if value is None else f"{value:.3g} ms"


def duration(seconds: float) -> str:
    """Return a time that is given in seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def moment(time: str) -> str:
    """Return a time as ISO 8601 has it, without its fractions and its zone."""
    return time[:19].replace("T", " ")


def together(text: str) -> str:
    """Return a text in which no line ends between a number and its unit."""
    return re.sub(r"(?<=\d) (?=(%|ms|[kMG]?B|s|min|h|σ)\b|%)", "\N{NO-BREAK SPACE}", text)


def times(ratio: float) -> str:
    """Return how often something goes into another, in two digits."""
    return f"{ratio:.1f}" if ratio < 9.95 else f"{ratio:,.0f}"


def compared(
    own: float | None, other: float | None, less: str, more: str, alike: str
) -> str | None:
    """Say how much less or more one is than the other, or None where one is not known.

    Args:
        own: above 0.
        other: above 0.
        less: for example "smaller".
        more: for example "larger".
        alike: what to say where they differ by less than a twentieth.
    """
    if not own or not other:
        return None
    ratio = other / own
    if abs(math.log(ratio)) < math.log(1.05):
        return alike
    return f"{times(ratio)} times {less}" if ratio > 1 else f"{times(1 / ratio)} times {more}"
