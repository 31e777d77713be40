"""What a run hears and says while it goes on.

The controller reports how things are to its `Control` and looks there, at every poll, what is
wanted. `Control` itself talks to nobody; `cluster.on_ray.board.BoardLink` exchanges the two with
the run board from a thread of its own, so that neither a busy controller nor a slow board holds the
other up.
"""

import threading
from typing import Any

from rich.console import Console
from rich.table import Table

from cluster.board import LINES_KEPT, RunStatus, Wanted
from cluster.progress import Reporter

TABLE_WIDTH = 100


class Control:
    """A run's status and wishes, safe to use from several threads.

    Args:
        status: the first one.
    """

    def __init__(self, status: RunStatus) -> None:
        self._lock = threading.Lock()
        self._status = status
        self._wanted = Wanted()

    @property
    def status(self) -> RunStatus:
        """How the run is."""
        with self._lock:
            return self._status

    @property
    def wanted(self) -> Wanted:
        """What is wanted of the run."""
        with self._lock:
            return self._wanted

    def want(self, wanted: Wanted) -> None:
        """Take over what is wanted; a stop is never taken back."""
        with self._lock:
            stop = self._wanted.stop or wanted.stop
            self._wanted = wanted.model_copy(update={"stop": stop})

    def report(self, **changes: Any) -> None:
        """Change fields of the status; nothing changes after the end."""
        with self._lock:
            if not self._status.ended:
                self._status = self._status.model_copy(update=changes)

    def add_line(self, text: str) -> None:
        """Append a line to what the run said."""
        with self._lock:
            status = self._status
            changes = {
                "num_lines": status.num_lines + 1,
                "lines": (*status.lines, text)[-LINES_KEPT:],
            }
            self._status = status.model_copy(update=changes)


class BoardReporter:
    """Tells a run's `Control` what a reporter is told.

    Args:
        control: of the run.
        inner: told the same; None where nobody sits before a screen.
    """

    def __init__(self, control: Control, inner: Reporter | None = None) -> None:
        self._control = control
        self._inner = inner

    def say(self, text: str) -> None:
        """Tell one line."""
        self._control.add_line(text)
        if self._inner is not None:
            self._inner.say(text)

    def show(self, table: Table) -> None:
        """Tell a table, line by line."""
        console = Console(width=TABLE_WIDTH, color_system=None)
        with console.capture() as capture:
            console.print(table)
        for line in capture.get().splitlines():
            self._control.add_line(line.rstrip())
        if self._inner is not None:
            self._inner.show(table)

    def progress(self, phase: str, fraction: float, text: str) -> None:
        """Tell how far a phase is."""
        self._control.report(detail=f"{phase} {100 * fraction:.0f} %: {text}")
        if self._inner is not None:
            self._inner.progress(phase, fraction, text)

    def close(self) -> None:
        """End what is drawn live."""
        if self._inner is not None:
            self._inner.close()
