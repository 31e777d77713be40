"""What the live page shows of a run: its entry on the run board, and the history of its figures.

The history begins with the run directory's metrics, where this machine reaches them, and grows with
what the board tells. A run that is over stays as it was last seen.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from cluster.board import Entry
from cluster.report.metrics_log import MetricsLog
from cluster.telemetry import Metrics
from common.errors import StillhouseError

logger = logging.getLogger(__name__)

LOOK_S = 0.5
"""Between two looks at the board."""


class Board(Protocol):
    """What is asked of the run board (`cluster.on_ray.board.BoardClient`)."""

    def entry(self, name: str) -> Entry:
        """Return a run."""

    def want(self, name: str, **changes: object) -> Entry:
        """Write down what is wanted of a run."""


class RunFeed:
    """Looks at a run from a thread of its own until it is closed.

    Args:
        board: the run board.
        name: of the run.
        history: the figures of its past, which goes on here.
        draw: makes curves of figures.

    Raises:
        ResourceError: there is no such run.
    """

    def __init__(
        self,
        board: Board,
        name: str,
        *,
        history: MetricsLog,
        draw: Callable[[MetricsLog], dict[str, Any]],
    ) -> None:
        self._board = board
        self._name = name
        self._draw = draw
        self._history = history
        self._newest: Metrics = {}
        self._lock = threading.Lock()
        self._entry = board.entry(name)
        self._seen_at = time.monotonic()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live-feed", daemon=True)
        self._thread.start()

    @property
    def entry(self) -> Entry:
        """The run as it was last seen; its age grows while the board does not answer."""
        with self._lock:
            since = time.monotonic() - self._seen_at
            return self._entry._replace(age_s=self._entry.age_s + since)

    def state(self) -> dict[str, Any]:
        """Return how the run is, as JSON has it."""
        return self.entry.as_json()

    def charts(self) -> dict[str, Any]:
        """Return its curves."""
        with self._lock:
            return self._draw(self._history)

    def want(self, **changes: object) -> None:
        """Write down what is wanted of the run.

        Raises:
            ResourceError: it cannot be had.
        """
        self._take(self._board.want(self._name, **changes))

    def close(self) -> None:
        """Look no more."""
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closed.wait(LOOK_S):
            try:
                self._take(self._board.entry(self._name))
            except StillhouseError as error:  # the head is away, say, and may come back
                logger.debug("%s", error)

    def _take(self, entry: Entry) -> None:
        with self._lock:
            figures = entry.status.figures
            if figures and figures != self._newest:
                self._history.add_figures(figures)
                self._newest = figures
            self._entry, self._seen_at = entry, time.monotonic()
