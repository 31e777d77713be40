"""A file that grows by whole records, and a write that fails without ending a run.

Metrics, TensorBoard events and the log are written this way. Nobody waits for them, and a full
disk, a quota or a lost share costs records, never the run.
"""

import logging
import os
from contextlib import suppress
from io import FileIO
from pathlib import Path

logger = logging.getLogger(__name__)


class GrowingFile:
    """Appends records, each whole or not at all.

    The first record that cannot be written is told in a warning, and so is the first that can be
    again; those between are only counted.

    Args:
        path: the file; it and its folder are made where they are missing.
        ends_with: what every record ends with. Where a killed process or a full disk left half
            of one at the file's end, that half is cut off before the next is written. Without
            it, only what this process wrote is cut.
    """

    def __init__(self, path: Path, *, ends_with: bytes = b"") -> None:
        self._path = path
        self._ends_with = ends_with
        self._missing = 0

    def append(self, record: bytes) -> bool:
        """Write a record; return whether it is in the file."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab+", buffering=0) as file:
                if self._ends_with:
                    _cut_half_record(file, self._ends_with)
                _append_whole(file, record)
        except OSError as error:
            self._missing += 1
            if self._missing == 1:
                logger.warning(
                    "%s cannot be written (%s); the run goes on without it",
                    self._path,
                    error.strerror or error,
                )
            return False
        if self._missing:
            missing, self._missing = self._missing, 0
            logger.warning("%s is written again; it lacks %d records", self._path, missing)
        return True


def _append_whole(file: FileIO, record: bytes) -> None:
    """Write all of a record, or leave the file as it was and raise OSError."""
    size = os.fstat(file.fileno()).st_size
    rest = memoryview(record)
    try:
        while rest:  # a disk that fills up takes a part first, and refuses the rest
            rest = rest[file.write(rest) :]
    except OSError:
        with suppress(OSError):
            file.truncate(size)
        raise


def _cut_half_record(file: FileIO, ends_with: bytes) -> None:
    """Cut off what follows the last whole record."""
    size = os.fstat(file.fileno()).st_size
    if not size:
        return
    file.seek(max(0, size - len(ends_with)))
    if file.read(len(ends_with)) == ends_with:
        return
    file.seek(0)
    whole, end, _ = file.readall().rpartition(ends_with)
    file.truncate(len(whole) + len(end))
