"""What a run writes at its end: one file that cannot be written keeps no other from being written.

The run fails when all is done, and says which they were. The report comes last: it tells of all
that was written before it, and of a run that failed, too.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from cluster.next_command import next_command
from cluster.report.delivery import write_report
from cluster.run_directory import RunDirectory
from cluster.spool import Spool
from common.errors import RunFailedError, StorageError


class Delivery:
    """Remembers what could not be written.

    Args:
        directory: the run directory.
        spool: where its metrics and log grow.
    """

    def __init__(self, directory: RunDirectory, spool: Spool) -> None:
        self._directory = directory
        self._spool = spool
        self._failed: list[str] = []
        self._reported = False

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Write something in here."""
        try:
            yield
        except StorageError as error:
            self._failed.append(str(error))

    def note(self, failed: str | None) -> None:
        """Remember what somebody else could not write, or None."""
        if failed is not None:
            self._failed.append(failed)

    def finish(self, say: Callable[[str], None]) -> None:
        """Write the report, and fail the run where something could not be written.

        Args:
            say: told where the report is.

        Raises:
            RunFailedError: with everything that is missing, figures and log with it.
        """
        self.note(self._spool.flush())
        self._reported = True
        with self.attempt():
            say(f"report: {write_report(self._directory.path)}")
        if self._failed:
            raise RunFailedError(
                f"could not write: {'; '.join(self._failed)}; what was there before is as it was: "
                f"mend that, and go on with: {next_command(self._directory, 'resume')}"
            )

    def report_failure(self) -> None:
        """Write the report of a run that has failed; where that fails too, the run's own failure is
        what counts."""
        if not self._reported:
            self._spool.flush()
            with suppress(StorageError):
                write_report(self._directory.path)
