"""What a run writes at its end: one file that cannot be written keeps no other from being written.

The run fails when all is done, and says which they were.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from common.errors import RunFailedError, StorageError


class Delivery:
    """Remembers what could not be written."""

    def __init__(self) -> None:
        self._failed: list[str] = []

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

    def check(self, directory: object) -> None:
        """Fail the run where something could not be written.

        Args:
            directory: the run directory, for the message.

        Raises:
            RunFailedError: with everything that is missing.
        """
        if self._failed:
            raise RunFailedError(
                f"could not write: {'; '.join(self._failed)}; what was there before is as it was: "
                f"mend that, and go on with stillhouse resume {directory}"
            )
