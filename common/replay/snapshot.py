"""Compressed chunks on disk: what a replay shard keeps, or what lies in a learner's window.

An Arrow stream, one row a chunk; whatever else is to be remembered is JSON in the schema. Payloads
are compressed already and never change, so a snapshot is the list of them, taken at once, and
writing it holds nobody up.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from common.codec import EncodedChunk
from common.errors import StorageError
from common.storage import Location, Written
from common.trajectory import ChunkId

FORMAT = 1
_HEADER = b"stillhouse"
_CHUNKS_PER_BATCH = 64
_FIELDS = [
    pa.field("runner", pa.int64()),
    pa.field("incarnation", pa.int64()),
    pa.field("sequence", pa.int64()),
    pa.field("num_transitions", pa.int64()),
    pa.field("checksum", pa.int64()),
    pa.field("payload", pa.large_binary()),
]


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """Chunks in their order, and what is remembered with them (JSON types)."""

    header: Mapping[str, Any]
    chunks: Sequence[EncodedChunk]

    def write(self, location: Location) -> Written:
        """Write the file.

        Raises:
            StorageError: it cannot be written.
        """
        header = json.dumps({"format": FORMAT, **self.header})
        schema = pa.schema(_FIELDS, metadata={_HEADER: header})

        def fill(sink: Any) -> None:
            with pa.ipc.new_stream(pa.PythonFile(sink, mode="w"), schema) as stream:
                for batch in self._batches(schema):
                    stream.write_batch(batch)

        return location.write(fill)

    def _batches(self, schema: Any) -> Iterator[Any]:
        for start in range(0, len(self.chunks), _CHUNKS_PER_BATCH):
            chunks = self.chunks[start : start + _CHUNKS_PER_BATCH]
            rows = [
                (*chunk.chunk_id, chunk.num_transitions, chunk.checksum, chunk.payload.tobytes())
                for chunk in chunks
            ]
            columns = zip(zip(*rows, strict=True), _FIELDS, strict=True)
            yield pa.record_batch(
                [pa.array(values, field.type) for values, field in columns], schema=schema
            )


def read_snapshot(location: Location) -> Snapshot:
    """Read a snapshot; its chunks own their memory.

    Raises:
        StorageError: the file cannot be read, or holds no snapshot of this format.
    """
    content = location.read_bytes()
    try:
        with pa.ipc.open_stream(content) as stream:
            header = json.loads(stream.schema.metadata[_HEADER])
            found = header.pop("format")
            chunks = [chunk for batch in stream for chunk in _chunks(batch)]
    except (
        pa.ArrowException,
        AttributeError,
        LookupError,
        OSError,
        TypeError,
        ValueError,
    ) as error:
        reason = " ".join(str(error).split())
        raise StorageError(f"{location}: no snapshot of a replay ({reason})") from None
    if found != FORMAT:
        raise StorageError(f"{location}: a snapshot of format {found}, not {FORMAT}")
    return Snapshot(header, chunks)


def _chunks(batch: Any) -> Iterator[EncodedChunk]:
    columns = [batch.column(field.name) for field in _FIELDS[:-1]]
    rows = zip(*(column.to_pylist() for column in columns), strict=True)
    for (*chunk_id, num_transitions, checksum), payload in zip(
        rows, batch.column("payload"), strict=True
    ):
        yield EncodedChunk(
            chunk_id=ChunkId(*chunk_id),
            num_transitions=num_transitions,
            payload=np.frombuffer(payload.as_buffer(), np.uint8).copy(),
            checksum=checksum,
        )
