"""What a person sees while a run goes on: a live bar, or plain lines where no terminal is."""

import time
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cluster.telemetry import Metrics

PLAIN_INTERVAL_S = 10.0


class Reporter(Protocol):
    """Where progress goes."""

    def say(self, text: str) -> None:
        """Tell one line."""

    def show(self, table: Table) -> None:
        """Show a table."""

    def progress(self, phase: str, fraction: float, text: str) -> None:
        """Tell how far a phase is, with a line of figures; called about once a second."""

    def close(self) -> None:
        """End what is drawn live."""


class PlainReporter:
    """Lines with the time since the start."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = time.monotonic()
        self._told = float("-inf")

    def say(self, text: str) -> None:
        """Print a line."""
        elapsed = time.monotonic() - self._started
        self._console.print(f"[{elapsed:6.0f} s] {text}", markup=False, soft_wrap=True)

    def show(self, table: Table) -> None:
        """Print a table."""
        self._console.print(table)

    def progress(self, phase: str, fraction: float, text: str) -> None:
        """Print a line every ten seconds."""
        if time.monotonic() - self._told >= PLAIN_INTERVAL_S:
            self._told = time.monotonic()
            self.say(f"{phase} {100 * fraction:.0f} %: {text}")

    def close(self) -> None:
        """Do nothing."""


class LiveReporter:
    """A bar and a line of figures that change in place."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._console.print(text, markup=False)

    def show(self, table: Table) -> None:
        """End the bar and print a table."""
        self.close()
        self._console.print(table)

    def progress(self, phase: str, fraction: float, text: str) -> None:
        """Redraw."""
        if self._live is None:
            self._live = Live(console=self._console, transient=True)
            self._live.start()
        bar = Table.grid(padding=(0, 1))
        bar.add_row(Text(phase, style="bold"), ProgressBar(total=1.0, completed=fraction, width=40))
        self._live.update(Group(bar, Text(text)))

    def close(self) -> None:
        """Remove the bar."""
        if self._live is not None:
            self._live.stop()
            self._live = None


def make_reporter(console: Console) -> Reporter:
    """Return the reporter that fits the console."""
    return LiveReporter(console) if console.is_terminal else PlainReporter(console)


def describe(metrics: Metrics, *, total_env_steps: int) -> str:
    """Say in one line how a distillation goes: speed, share, who waits, time left."""
    speed = metrics.get("learner/env_steps_per_s", 0.0)
    done = metrics["learner/env_steps"]
    parts = [f"{done:,.0f} of {total_env_steps:,} env steps"]
    if speed > 0:
        parts.append(f"{speed:,.0f}/s")
    if (kl := metrics.get("learner/loss")) is not None:
        parts.append(f"loss {kl:.4f}")
    if (share := metrics.get("student/share_of_teacher")) is not None:
        parts.append(f"share of the teacher {100 * share:.0f} %")
    if version := metrics.get("teacher/version", 0.0):
        parts.append(f"version {version:.0f} of the teacher")
    learner, runners = metrics.get("learner/wait_share", 0.0), metrics.get("actor/wait_share", 0.0)
    parts.append(f"waiting: learner {100 * learner:.0f} %, env runners {100 * runners:.0f} %")
    if restarts := metrics.get("cluster/restarts"):
        parts.append(f"{restarts:.0f} restarts")
    if speed > 0:
        parts.append(f"{_duration((total_env_steps - done) / speed)} left")
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
