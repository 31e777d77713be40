"""Writing in the background: one thread, one job at a time, and nobody waits unless asked to.

A job that fails for want of disk, network or access is tried again by whoever starts the next one.
A warning tells of it once, and so is the first success after it.
"""

import logging
import threading
from collections.abc import Callable

from common.errors import StorageError

logger = logging.getLogger(__name__)


class BackgroundWriter:
    """Runs jobs that write.

    Args:
        what: is written, for messages; for example "a checkpoint".
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._thread: threading.Thread | None = None
        self._bug: Exception | None = None
        self.problem: str | None = None
        """Why the last job failed, or None where it did not."""

    @property
    def busy(self) -> bool:
        """Whether a job is under way."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, job: Callable[[], object]) -> None:
        """Start a job, after the one that may be under way.

        Args:
            job: raises StorageError where it cannot write.

        Raises:
            Exception: anything else that a job before raised.
        """
        self.wait()
        self._thread = threading.Thread(target=self._run, args=(job,), name=self._what, daemon=True)
        self._thread.start()

    def wait(self) -> str | None:
        """Wait for the job under way and return `problem`.

        Raises:
            Exception: anything but StorageError that a job raised.
        """
        if self._thread is not None:
            self._thread.join()
        if self._bug is not None:
            bug, self._bug = self._bug, None
            raise bug
        return self.problem

    def _run(self, job: Callable[[], object]) -> None:
        try:
            job()
        except StorageError as error:
            if self.problem is None:
                logger.warning(
                    "writing %s failed: %s; the run goes on and tries again", self._what, error
                )
            self.problem = str(error)
        except Exception as error:  # raised again where somebody waits
            self._bug = error
        else:
            if self.problem is not None:
                logger.warning("writing %s works again", self._what)
            self.problem = None
