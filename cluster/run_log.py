"""The run's log: everything that is said, one JSON object a line, and warnings on the screen.

What the packages log through `logging` (also in Ray actors, see `cluster.on_ray.actor_logs`) and
what the controller tells the reporter ends up in `log.jsonl`; warnings reach the reporter too.
"""

import json
import logging
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.table import Table

from cluster.growing_file import GrowingFile
from cluster.on_ray.actor_logs import PACKAGES
from cluster.progress import Reporter
from cluster.recipe.config import RunConfig
from common.errors import StillhouseError

CONTROLLER = "controller"

STARTS = "the run starts"
ENDS = "the run ends"
STOPS = "stopping with a checkpoint"
FAILED = "the run failed"
BROKEN_OFF = "the run was broken off"
"""What the log says of a run's start and end, or how it begins to; reports read it."""

logger = logging.getLogger(__name__)


class RunLog:
    """The log of one run; it is also the run's reporter, and writes down what that is told.

    As a context manager it listens to the packages' loggers, and says how the run started and
    ended.

    Args:
        path: of the file that grows.
        config: the recipe, whose name and environment are on every line.
        reporter: where lines and warnings go as well.
    """

    def __init__(self, path: Path, config: RunConfig, reporter: Reporter) -> None:
        self.policy_version: int | None = None
        """The learner's newest, as far as the controller knows."""
        self._config = config
        self._reporter = reporter
        self._file = _FileHandler(path, self)
        self._screen = _ScreenHandler(reporter)
        self._levels: list[int] = []

    def __enter__(self) -> "RunLog":
        """Start to listen."""
        loggers = [logging.getLogger(name) for name in PACKAGES]
        self._levels = [listened.level for listened in loggers]
        for listened in loggers:
            listened.setLevel(logging.INFO)
            listened.addHandler(self._file)
            listened.addHandler(self._screen)
        logger.info(STARTS)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Say how the run ended, and listen no more."""
        loggers = [logging.getLogger(name) for name in PACKAGES]
        for listened in loggers:  # whoever started the run shows the error itself
            listened.removeHandler(self._screen)
        if error is None:
            logger.info(ENDS)
        elif isinstance(error, StillhouseError):
            logger.error("%s: %s", FAILED, error)
        elif isinstance(error, KeyboardInterrupt):
            logger.error(BROKEN_OFF)
        else:
            logger.error(FAILED, exc_info=error)
        for listened, level in zip(loggers, self._levels, strict=True):
            listened.removeHandler(self._file)
            listened.setLevel(level)

    def say(self, text: str) -> None:
        """Tell one line."""
        logger.info("%s", text)
        self._reporter.say(text)

    def show(self, table: Table) -> None:
        """Show a table."""
        self._reporter.show(table)

    def progress(self, phase: str, fraction: float, text: str) -> None:
        """Show how far a phase is; `metrics.jsonl` has the figures."""
        self._reporter.progress(phase, fraction, text)

    def close(self) -> None:
        """End what is drawn live."""
        self._reporter.close()

    def entry(self, record: logging.LogRecord) -> dict[str, Any]:
        """Return what a line of the log holds."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        entry: dict[str, Any] = {
            "time": time,
            "level": record.levelname.lower(),
            "run": self._config.name,
            "task": self._config.task_name,
            "policy_version": self.policy_version,
            "actor": getattr(record, "actor", CONTROLLER),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            entry["traceback"] = record.exc_text
        return {key: value for key, value in entry.items() if value is not None}


class _FileHandler(logging.Handler):
    """Writes `log.jsonl`."""

    def __init__(self, path: Path, log: RunLog) -> None:
        super().__init__()
        self._file = GrowingFile(path, ends_with=b"\n")
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line. Where that fails, the file's own warning comes by here once, in vain."""
        self._file.append(json.dumps(self._log.entry(record)).encode() + b"\n")


class _ScreenHandler(logging.Handler):
    """Tells the reporter of warnings and errors."""

    def __init__(self, reporter: Reporter) -> None:
        super().__init__(logging.WARNING)
        self._reporter = reporter

    def emit(self, record: logging.LogRecord) -> None:
        """Say a line."""
        actor = getattr(record, "actor", CONTROLLER)
        origin = "" if actor == CONTROLLER else f" ({actor})"
        self._reporter.say(f"{record.levelname.lower()}: {record.getMessage()}{origin}")
