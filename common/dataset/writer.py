"""The writer of a dataset: takes chunks, writes a part whenever it has enough of them.

Chunks wait for their part in compressed form, so a recording needs no more memory than a part
has bytes, however long it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from common.codec import EncodedChunk, decode, owned
from common.dataset.manifest import TEACHER, Manifest, Part, write_manifest
from common.dataset.table import KEYS, to_table
from common.policies.policy import Policy, save_policy
from common.storage import Location, Written
from common.trajectory import ChunkId, TrajectoryChunk

PART_TRANSITIONS = 2**17
PART_BYTES = 2**26
"""A part is full with so many transitions, or so many bytes of compressed chunks."""

PAGE_BYTES = 2**24
"""A chunk's planes in one page: they compress along time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What a writer has taken so far."""

    transitions: int
    """Those that wait for their part included."""
    num_bytes: int
    """Of the parts that are written."""


class DatasetWriter:
    """Writes a new dataset.

    Args:
        location: its folder.
        manifest: what it is, without parts and the teacher's checksum.
        teacher: whose labels the chunks carry.
        num_transitions: how many to take; the chunk that reaches it is the last.
        part_transitions: of a part, at least.
        part_bytes: of a part's chunks while they wait, about.
    """

    def __init__(
        self,
        location: Location,
        manifest: Manifest,
        teacher: Policy,
        *,
        num_transitions: int,
        part_transitions: int = PART_TRANSITIONS,
        part_bytes: int = PART_BYTES,
    ) -> None:
        self._location = location
        self._num_transitions = num_transitions
        self._part_transitions = part_transitions
        self._part_bytes = part_bytes
        self._waiting: list[EncodedChunk] = []
        self._taken: set[ChunkId] = set()
        self._transitions = 0
        self._schema: pa.Schema | None = None
        weights = location / TEACHER
        save_policy(teacher, weights)
        self.manifest = manifest.model_copy(update={"teacher_sha256": weights.checksum().sha256})
        """With the parts that are written."""

    @property
    def full(self) -> bool:
        """Whether there are as many transitions as were wanted."""
        return self._transitions >= self._num_transitions

    def add(self, chunk: EncodedChunk) -> None:
        """Take a chunk; one that came before, or comes when there are enough, is dropped.

        Raises:
            StorageError: a part cannot be written.
        """
        if self.full or chunk.chunk_id in self._taken:
            return
        self._taken.add(chunk.chunk_id)
        self._waiting.append(owned(chunk))
        self._transitions += chunk.num_transitions
        waiting = sum(chunk.num_transitions for chunk in self._waiting)
        num_bytes = sum(chunk.num_bytes for chunk in self._waiting)
        if waiting >= self._part_transitions or num_bytes >= self._part_bytes:
            self._write()

    def close(self) -> Manifest:
        """Write what still waits, and return the manifest; nothing is left where nothing came.

        Raises:
            StorageError: it cannot be written.
        """
        if self._waiting:
            self._write()
        if not self.manifest.parts:
            for suffix in (".safetensors", ".json"):
                (self._location / TEACHER).with_suffix(suffix).remove()
        return self.manifest

    def recorded(self) -> Recorded:
        """Return the counters."""
        return Recorded(transitions=self._transitions, num_bytes=self.manifest.num_bytes)

    def _write(self) -> None:
        """Write a part and the manifest that names it."""
        manifest = self.manifest
        name = quote(manifest.task, safe="")
        path = f"task={name}/part-{len(manifest.parts):05}.parquet"
        # In the order of time, whichever env runner was faster.
        chunks = sorted(self._waiting, key=lambda chunk: chunk.chunk_id)
        decoded = _Totals()
        written = (self._location / path).write(lambda sink: self._fill(sink, chunks, decoded))
        part = decoded.part(path, written)
        self.manifest = manifest.with_part(part)
        write_manifest(self._location, self.manifest)
        self._waiting = []

    def _fill(self, sink: BinaryIO, chunks: Sequence[EncodedChunk], totals: "_Totals") -> None:
        first = self.manifest.chunks * self.manifest.num_envs
        writer: pq.ParquetWriter | None = None
        for encoded in chunks:
            chunk = decode(encoded)
            table = to_table(chunk, first_sequence=first + totals.chunks * self.manifest.num_envs)
            if self._schema is None:
                self._schema = table.schema
            if writer is None:
                writer = _writer(sink, self._schema)
            writer.write_table(table, row_group_size=len(table))
            totals.add(chunk)
        if writer is not None:
            writer.close()


class _Totals:
    """Counts what goes into a part."""

    def __init__(self) -> None:
        self.chunks = 0
        self._rows = 0
        self._transitions = 0
        self._episodes = 0

    def add(self, chunk: TrajectoryChunk) -> None:
        self.chunks += 1
        self._rows += chunk.valid.size
        self._transitions += chunk.num_transitions
        self._episodes += int(np.sum((chunk.terminated | chunk.truncated) & chunk.valid))

    def part(self, path: str, written: Written) -> Part:
        return Part(
            path=path,
            chunks=self.chunks,
            rows=self._rows,
            transitions=self._transitions,
            episodes=self._episodes,
            num_bytes=written.num_bytes,
            sha256=written.sha256,
        )


def _writer(sink: BinaryIO, schema: pa.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        sink,
        schema,
        compression="zstd",
        compression_level=3,
        use_dictionary=[*KEYS, "acting_policy"],
        write_statistics=[*KEYS, "step"],
        data_page_size=PAGE_BYTES,
    )
