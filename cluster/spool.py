"""Files that grow (metrics, log, events) for a run directory that is not on this disk.

An object store takes whole files only. So they are written into a folder on this disk, and what has
changed is uploaded now and then, in the background, and at the end. A run directory on this disk
needs none of that: it is the folder itself.
"""

import shutil
import tempfile
import time
from pathlib import Path

from cluster.run_directory import RunDirectory
from common.background import BackgroundWriter

INTERVAL_S = 30.0
"""Between two uploads at least."""

SHARE = 0.05
"""Of the time that may go into uploads."""


class Spool:
    """A folder on this disk whose files come into a run directory.

    Args:
        directory: the run directory, whose metrics and log go on growing where a former session
            left them.

    Raises:
        StorageError: these cannot be read.
    """

    def __init__(self, directory: RunDirectory) -> None:
        self._files = directory
        self._directory = directory.path
        self._uploaded: dict[Path, tuple[int, int]] = {}  # size and time of change
        self._writer = BackgroundWriter("metrics and log")
        self._next = time.monotonic() + INTERVAL_S
        if self._directory.is_local:
            self.folder = Path(self._directory.path)
            return
        self.folder = Path(tempfile.mkdtemp(prefix="stillhouse-"))
        for grown, here in ((directory.metrics, self.metrics), (directory.log, self.log)):
            if grown.exists():
                here.write_bytes(grown.read_bytes())

    @property
    def metrics(self) -> Path:
        """Where the metrics grow."""
        return self.folder / self._files.metrics.name

    @property
    def log(self) -> Path:
        """Where the log grows."""
        return self.folder / self._files.log.name

    @property
    def tensorboard(self) -> Path:
        """Where TensorBoard's events grow."""
        return self.folder / self._files.tensorboard.name

    def upload_when_due(self) -> None:
        """Start an upload where the last one is long enough ago; never waits."""
        if self._directory.is_local or self._writer.busy or time.monotonic() < self._next:
            return
        self._next = float("inf")
        self._writer.start(self._upload)

    def flush(self) -> str | None:
        """Upload what is not there yet, wait for it, and return what went wrong and where it is."""
        if self._directory.is_local:
            return None
        self._writer.start(self._upload)
        problem = self._writer.wait()
        return None if problem is None else f"{problem}; metrics and log are in {self.folder}"

    def close(self) -> None:
        """Upload what is not there yet; remove the folder where that worked."""
        if not self._directory.is_local and self.flush() is None:
            shutil.rmtree(self.folder)

    def _upload(self) -> None:
        started = time.monotonic()
        try:
            for path in sorted(self.folder.rglob("*")):
                if path.is_file():
                    self._upload_file(path)
        finally:
            took = time.monotonic() - started
            self._next = time.monotonic() + max(INTERVAL_S, took / SHARE)

    def _upload_file(self, path: Path) -> None:
        found = path.stat()
        changed = (found.st_size, found.st_mtime_ns)
        if self._uploaded.get(path) != changed:
            target = self._directory / path.relative_to(self.folder).as_posix()
            target.write_bytes(path.read_bytes())
            self._uploaded[path] = changed
