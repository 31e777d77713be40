"""The run board: which runs a cluster has, how they are, and what is wanted of them.

A run reports its status there about once a second and is told what is wanted; commands (`scale`,
`pause`, `stop`) write down what is wanted and read the status. So nobody ever waits for a run that
is busy, and a run that starts again after a crash still finds what was wanted of it. The board
waits for nobody. It remembers nothing on disk: should it be lost with its node, each run writes
itself down again with its next report, and only what had ended is forgotten.
"""

import time
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from pydantic import Field

from common.config import StrictModel
from common.errors import ResourceError

Phase = Literal[
    "starting", "teaching", "baseline", "distilling", "evaluating", "finished", "stopped", "failed"
]
ENDED: frozenset[Phase] = frozenset({"finished", "stopped", "failed"})

LINES_KEPT = 50
"""Last lines that a run said."""

SILENT_S = 60.0
"""A run that reports nothing for so long is taken for dead."""

ENDED_KEPT = 100
"""Runs that have ended and are still listed."""


class ActorHealth(StrictModel):
    """How one actor of a run is."""

    name: str
    """Role and number, as in the log."""
    starts: int = 1
    """How often it was started while this controller ran, where that can be told."""
    unit: str
    """What it counts."""
    per_s: float | None = None
    """How many of them a second, lately."""
    wait_share: float | None = None
    """Of its time, lately, that it waited for another."""
    policy_version: int | None = None
    """Of the student that it has."""
    still_s: float = 0.0
    """Seconds since any of its counters changed."""


class RunStatus(StrictModel):
    """How a run is."""

    name: str
    run_dir: str
    task: str
    phase: Phase = "starting"
    detail: str = ""
    """How far the phase is, for people."""
    env_steps: int = 0
    total_env_steps: int = 0
    env_runners: int = 0
    """Env runners that collect."""
    env_runners_wanted: int = 0
    min_env_runners: int = 1
    """Fewer would leave a replay shard without data."""
    paused: bool = False
    waiting_for: str | None = None
    """Which resources are missing."""
    stands_still: str | None = None
    """Which stage does not move, and since when."""
    teacher: str | None = None
    """Which version of it is learnt from, where it is refreshed."""
    restarts: dict[str, int] = Field(default_factory=dict)
    """By role."""
    actors: tuple[ActorHealth, ...] = ()
    """Of the distillation that goes on."""
    figures: dict[str, float] = Field(default_factory=dict)
    """The newest metrics by their names."""
    num_lines: int = 0
    """Lines said since the start; `lines` are the last of them."""
    lines: tuple[str, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.phase in ENDED


class Wanted(StrictModel):
    """What is wanted of a run; None leaves things as the recipe has them."""

    num_env_runners: int | None = None
    paused: bool | None = None
    stop: bool = False


class Entry(NamedTuple):
    """A run as the board shows it."""

    status: RunStatus
    age_s: float
    """Seconds since the run reported."""
    wanted: Wanted
    starts: int
    """How often this launch of the run has started."""

    @property
    def alive(self) -> bool:
        """Whether more is to be expected of the run."""
        return not self.status.ended and self.age_s < SILENT_S

    def as_json(self) -> dict[str, Any]:
        """Return it as programs read it."""
        return self.status.model_dump(mode="json") | {
            "alive": self.alive,
            "ended": self.status.ended,
            "age_s": self.age_s,
            "wanted": self.wanted.model_dump(mode="json"),
        }


class _Record:
    def __init__(self, token: str, status: RunStatus) -> None:
        self.token = token
        self.status = status
        self.wanted = Wanted()
        self.starts = 0
        self.reported_at = 0.0


class RunBoard:
    """Statuses and wishes, by the names of the runs.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._records: dict[str, _Record] = {}

    def claim(self, token: str, status: RunStatus) -> None:
        """Take a name for a launch of a run; taking it again changes nothing.

        Args:
            token: tells this launch of the run from others of the same name.
            status: the first report.

        Raises:
            ResourceError: another run of this name is going on.
        """
        former = self._records.get(status.name)
        if former is not None and former.token == token:
            return
        if former is not None and self._entry(former).alive:
            raise ResourceError(
                f"a run named {status.name} is going on (run directory "
                f"{former.status.run_dir}); give this one another name with --name"
            )
        self._records.pop(status.name, None)  # the newest launch is listed last
        self._report(self._records.setdefault(status.name, _Record(token, status)), status)
        self._forget_the_oldest()

    def begin(self, token: str, status: RunStatus) -> int:
        """Note that a launch starts, or starts again after a crash.

        Returns:
            How often it has started before.

        Raises:
            ResourceError: another run of this name is going on.
        """
        self.claim(token, status)
        record = self._records[status.name]
        self._report(record, status)
        record.starts += 1
        return record.starts - 1

    def exchange(self, token: str, status: RunStatus) -> Wanted:
        """Take a run's report and tell it what is wanted.

        One that the board does not know writes itself down. One whose name went to another
        launch is told to stop.
        """
        record = self._records.get(status.name)
        if record is None:
            record = self._records[status.name] = _Record(token, status)
        if record.token != token:
            return Wanted(stop=True)
        self._report(record, status)
        return record.wanted

    def want(self, name: str, **changes: object) -> Entry:
        """Write down what is wanted of a run that goes on.

        Args:
            name: of the run.
            changes: fields of `Wanted`.

        Raises:
            ResourceError: there is no such run, or it has ended, or it cannot be had.
        """
        entry = self.entry(name)
        if not entry.alive:
            state = entry.status.phase if entry.status.ended else "silent, perhaps dead"
            raise ResourceError(
                f"{name}: the run is {state}; go on with it by stillhouse resume "
                f"{entry.status.run_dir}"
            )
        number = changes.get("num_env_runners")
        if isinstance(number, int) and number < entry.status.min_env_runners:
            raise ResourceError(
                f"--env-runners {number}: {name} needs at least {entry.status.min_env_runners}, "
                f"one for each replay shard; stillhouse pause {name} holds all of them"
            )
        record = self._records[name]
        record.wanted = Wanted.model_validate(record.wanted.model_dump() | changes)
        return self._entry(record)

    def entry(self, name: str) -> Entry:
        """Return a run.

        Raises:
            ResourceError: there is no such run.
        """
        if (record := self._records.get(name)) is None:
            there = ", ".join(self._records) or "none"
            raise ResourceError(f"{name}: no such run on this cluster; there are: {there}")
        return self._entry(record)

    def entries(self) -> list[Entry]:
        """Return all runs, the newest launch last."""
        return [self._entry(record) for record in self._records.values()]

    def _report(self, record: _Record, status: RunStatus) -> None:
        record.status = status
        record.reported_at = self._clock()

    def _entry(self, record: _Record) -> Entry:
        status = record.status
        if record.starts > 1:
            restarts = status.restarts | {"controller": record.starts - 1}
            status = status.model_copy(update={"restarts": restarts})
        return Entry(status, self._clock() - record.reported_at, record.wanted, record.starts)

    def _forget_the_oldest(self) -> None:
        ended = [name for name, record in self._records.items() if not self._entry(record).alive]
        for name in ended[: max(0, len(ended) - ENDED_KEPT)]:
            del self._records[name]
