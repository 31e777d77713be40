"""An exported file or folder on a disk of this machine, for runtimes that read from paths only."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.storage import Location


@contextmanager
def local_copy(location: Location) -> Iterator[Path]:
    """Return where it lies; from elsewhere it is fetched, and gone again afterwards.

    Raises:
        StorageError: it cannot be read.
    """
    if location.is_local:
        yield Path(location.path)
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / location.name
        if location.is_dir():
            copy.mkdir()
            for name in location.names():
                (copy / name).write_bytes((location / name).read_bytes())
        else:
            copy.write_bytes(location.read_bytes())
        yield copy
