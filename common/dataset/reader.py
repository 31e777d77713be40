"""The reader of a dataset: finds damage before anything starts, and reads chunk after chunk."""

from bisect import bisect_right
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from common.dataset.manifest import TEACHER, Manifest, Part, read_manifest
from common.dataset.table import about_of, from_table
from common.errors import ConfigError, DatasetError, FileMissingError
from common.policies.policy import Policy, load_policy
from common.storage import Location, Named, locate
from common.trajectory import TrajectoryChunk

SPLIT_SEED = 7
"""Which chunks are held out depends on the dataset alone: every student is scored on the same."""

OPEN_PARTS = 64
"""Parts that are kept open; the one not asked for the longest is closed."""

_FOREIGN = (pa.ArrowException, LookupError, OSError, TypeError, ValueError)
"""What bytes that are no part can raise on their way through Parquet, JSON and NumPy."""


class Split(NamedTuple):
    """The numbers of the chunks to train on, and of those that are held out, each in order."""

    training: list[int]
    held_out: list[int]


class Dataset:
    """A dataset that is there, with its parts opened as they are needed.

    Args:
        location: its folder.
        manifest: what it is.
    """

    def __init__(self, location: Location, manifest: Manifest) -> None:
        self.location = location
        self.manifest = manifest
        self._stops = list(accumulate(part.chunks for part in manifest.parts))
        self._files: dict[int, pq.ParquetFile] = {}

    def __len__(self) -> int:
        """Return the number of chunks."""
        return self.manifest.chunks

    def split(self, share: float) -> Split:
        """Hold a share of the chunks out, one at least.

        Raises:
            ConfigError: there is only one.
        """
        if len(self) < 2:
            raise ConfigError(
                f"{self.location}: the dataset is one chunk, and one must be held out; record "
                f"more of it"
            )
        order = np.random.default_rng(SPLIT_SEED).permutation(len(self)).tolist()
        count = min(max(1, round(share * len(self))), len(self) - 1)
        return Split(training=sorted(order[count:]), held_out=sorted(order[:count]))

    def read(self, number: int) -> TrajectoryChunk:
        """Read a chunk.

        Raises:
            DatasetError: it cannot be read.
        """
        index = bisect_right(self._stops, number)
        part = self.manifest.parts[index]
        group = number - (self._stops[index] - part.chunks)
        try:
            table = self._file(index).read_row_group(group, use_threads=False)
            return from_table(table, task_id=self.manifest.task)
        except _FOREIGN as error:
            raise DatasetError(
                f"{self.location / part.path}: cannot be read ({_line(error)}); stillhouse check "
                f"tells whether it is damaged"
            ) from None

    def teacher(self, *, trust: bool = False) -> Policy:
        """Read the teacher.

        Args:
            trust: whether it may hold a program that could do more than compute.

        Raises:
            PolicyFileError: its files are missing, damaged, or not to be trusted.
        """
        return load_policy(self.location / TEACHER, trust=trust)

    def verify(self) -> None:
        """Read all files through.

        Raises:
            DatasetError: one of them is missing, or not what the manifest says.
            StorageError: one of them cannot be read.
        """
        weights = self.location / TEACHER
        try:
            found = weights.checksum()
        except FileMissingError:
            raise DatasetError(f"{weights}: missing; record again") from None
        if found.sha256 != self.manifest.teacher_sha256:
            raise DatasetError(f"{weights}: damaged, or another teacher's; record again")
        schema = None
        for index, part in enumerate(self.manifest.parts):
            location = self.location / part.path
            try:
                written = location.checksum()
            except FileMissingError:
                raise DatasetError(f"{location}: missing; fetch it, or record again") from None
            if written != (part.num_bytes, part.sha256):
                raise self._damaged(part, "its checksum differs")
            try:
                file = self._file(index)
                about_of(file.schema_arrow)
            except _FOREIGN as error:
                raise self._damaged(part, _line(error)) from None
            metadata = file.metadata
            if (metadata.num_row_groups, metadata.num_rows) != (part.chunks, part.rows):
                raise self._damaged(part, f"it has {metadata.num_rows} rows, not {part.rows}")
            schema = schema or file.schema_arrow
            if not file.schema_arrow.equals(schema, check_metadata=True):
                raise self._damaged(part, "its columns are not those of the parts before it")

    def close(self) -> None:
        """Close the parts."""
        while self._files:
            self._files.popitem()[1].close(force=True)

    def _file(self, index: int) -> Any:
        file = self._files.pop(index, None)
        if file is None:
            location = self.location / self.manifest.parts[index].path
            file = pq.ParquetFile(location.open())
        self._files[index] = file  # now the one that was asked for last
        if len(self._files) > OPEN_PARTS:
            self._files.pop(next(iter(self._files))).close(force=True)
        return file

    def _damaged(self, part: Part, reason: str) -> DatasetError:
        return DatasetError(
            f"{self.location / part.path}: damaged ({reason}); fetch it again, or record again"
        )


def open_dataset(path: Named) -> Dataset:
    """Open the dataset at `path`; its parts are not looked at yet.

    Raises:
        DatasetError: there is none that can be read.
        StorageError: the place cannot be reached.
    """
    location = locate(path)
    return Dataset(location, read_manifest(location))


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
