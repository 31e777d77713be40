"""Hyperparameters that change while a run goes on: a weight, a temperature.

In the place of a number a recipe may give a schedule, for example
`weight = { start = 1.0, end = 0.0, until = 0.5, by = "progress" }`: linear from start to end, and
at the end from then on. A term never changes; `ObjectiveConfig.at` puts the numbers of a moment in
the place of its schedules.
"""

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from common.config import StrictModel


class Moment(NamedTuple):
    """Where a run is."""

    progress: float
    """Share of the run's transitions received, 0 to 1."""
    share_of_teacher: float
    """What the student reaches of its teacher's return, less what a random policy gets: estimated
    on the last student episodes, and 0 before there is an estimate."""


class Schedule(StrictModel):
    """A number that goes from `start` to `end`, linearly."""

    start: float = Field(ge=0)
    end: float = Field(ge=0)
    until: float = Field(default=1.0, gt=0)
    """Where `end` is reached, in the units of `by`."""
    by: Literal["progress", "share_of_teacher"] = "progress"
    """What it goes by: a field of `Moment`."""

    @model_validator(mode="after")
    def _ends(self) -> "Schedule":
        if self.by == "progress" and self.until > 1:
            raise ValueError(
                f"until = {self.until:g}: progress is a share of the run, 1 at its end"
            )
        return self

    def value(self, moment: Moment) -> float:
        """Return the number at a moment."""
        where = moment.progress if self.by == "progress" else moment.share_of_teacher
        part = min(1.0, max(0.0, where / self.until))
        return (1.0 - part) * self.start + part * self.end


def _all_positive(schedule: Schedule) -> Schedule:
    if min(schedule.start, schedule.end) <= 0:
        raise ValueError(f"start = {schedule.start:g}, end = {schedule.end:g}: give both above 0")
    return schedule


def _kind(value: Any) -> str:
    return "schedule" if isinstance(value, dict | Schedule) else "number"


def _kind_or_auto(value: Any) -> str:
    return "auto" if isinstance(value, str) else _kind(value)


_PositiveNumber = Annotated[float, Field(gt=0), Tag("number")]
_PositiveSchedule = Annotated[Schedule, AfterValidator(_all_positive), Tag("schedule")]

NonNegative = Annotated[
    Annotated[float, Field(ge=0), Tag("number")] | Annotated[Schedule, Tag("schedule")],
    Discriminator(_kind),
]
"""A number of at least 0, or a schedule of such."""

Positive = Annotated[_PositiveNumber | _PositiveSchedule, Discriminator(_kind)]
"""A number above 0, or a schedule of such."""

PositiveOrAuto = Annotated[
    _PositiveNumber | _PositiveSchedule | Annotated[Literal["auto"], Tag("auto")],
    Discriminator(_kind_or_auto),
]
"""The same, or what is to be found out before the first step."""


def present(value: "float | Schedule | Literal['auto']") -> float:
    """Return the number that stands where a schedule could."""
    assert not isinstance(value, Schedule | str), f"{value}: not resolved yet"
    return value
