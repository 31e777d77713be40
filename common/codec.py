"""A chunk on the wire: one row of an Arrow record batch, zstd-compressed.

Every array of the chunk is a list column (so each compresses as one buffer, frame planes along
time: some hundred times better than plane by plane); shapes and scalars are schema metadata.
Encoding and decoding release the GIL.
"""

import json
import zlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from common.errors import StillhouseError
from common.frames import FrameObservations
from common.trajectory import ChunkId, TrajectoryChunk, VectorObservations

WIRE_VERSION = 2
_OPTIONS = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", 1), use_threads=False)
_STEP_ARRAYS = (
    "actions",
    "rewards",
    "terminated",
    "truncated",
    "valid",
    "acting_policy",
    "behavior_log_prob",
)
_LABEL_ARRAYS = ("teacher_dist_inputs", "teacher_value")
"""Left out where the chunk has none."""
_FOREIGN = (
    pa.ArrowException,
    AttributeError,
    LookupError,
    OSError,
    StopIteration,
    TypeError,
    ValueError,
)
"""What bytes that are no chunk can raise on their way through Arrow, JSON and NumPy."""


class CodecError(StillhouseError):
    """Bytes that are no chunk of this version."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EncodedChunk:
    """A compressed chunk and what a shard must know of it without decoding."""

    chunk_id: ChunkId
    num_transitions: int
    payload: npt.NDArray[np.uint8]
    checksum: int
    """CRC-32 of the payload."""

    @property
    def num_bytes(self) -> int:
        """Size on the wire and in the shard."""
        return self.payload.nbytes


def encode(chunk: TrajectoryChunk) -> EncodedChunk:
    """Compress a chunk."""
    arrays = {name: getattr(chunk, name) for name in _STEP_ARRAYS}
    header: dict[str, Any] = {
        "version": WIRE_VERSION,
        "chunk_id": list(chunk.chunk_id),
        "task_id": chunk.task_id,
        "steps_before": chunk.steps_before,
        "policy_version": chunk.policy_version,
        "teacher_version": chunk.teacher_version,
    }
    labels = {name: getattr(chunk, name) for name in _LABEL_ARRAYS}
    arrays |= {name: array for name, array in labels.items() if array is not None}
    if isinstance(chunk.observations, FrameObservations):
        arrays["planes"] = chunk.observations.planes
        arrays["last_plane"] = chunk.observations.last_plane
        header["stack"] = chunk.observations.stack
    else:
        arrays["obs"] = chunk.observations.values
    header["shapes"] = {name: list(array.shape) for name, array in arrays.items()}
    columns = [_column(array) for array in arrays.values()]
    schema = pa.schema(
        [pa.field(name, column.type) for name, column in zip(arrays, columns, strict=True)],
        metadata={"stillhouse": json.dumps(header)},
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema, options=_OPTIONS) as writer:
        writer.write_batch(pa.record_batch(columns, schema=schema))
    payload = np.frombuffer(sink.getvalue(), np.uint8)
    return EncodedChunk(
        chunk_id=chunk.chunk_id,
        num_transitions=chunk.num_transitions,
        payload=payload,
        checksum=zlib.crc32(payload.data),
    )


def decode(encoded: EncodedChunk) -> TrajectoryChunk:
    """Decompress a chunk; its arrays are read-only.

    Raises:
        CodecError: the bytes are damaged or of another version.
    """
    if zlib.crc32(encoded.payload.data) != encoded.checksum:
        raise CodecError(f"chunk {encoded.chunk_id} is damaged: its checksum differs")
    try:
        return _from_arrow(encoded.payload)
    except _FOREIGN as error:
        raise CodecError(f"chunk {encoded.chunk_id} is no chunk: {error}") from error


def _from_arrow(payload: npt.NDArray[np.uint8]) -> TrajectoryChunk:
    with pa.ipc.open_stream(pa.py_buffer(payload)) as reader:
        header = json.loads(reader.schema.metadata[b"stillhouse"])
        batch = reader.read_next_batch()
    if header["version"] != WIRE_VERSION:
        raise CodecError(f"chunk of wire version {header['version']}, not {WIRE_VERSION}")
    batch.validate(full=True)  # Arrow reads buffers that are too short without a look
    arrays = {
        name: _array(batch.column(name)).reshape(shape) for name, shape in header["shapes"].items()
    }
    observations: FrameObservations | VectorObservations
    if "planes" in arrays:
        observations = FrameObservations(
            planes=arrays["planes"], last_plane=arrays["last_plane"], stack=header["stack"]
        )
    else:
        observations = VectorObservations(arrays["obs"])
    return TrajectoryChunk(
        chunk_id=ChunkId(*header["chunk_id"]),
        task_id=header["task_id"],
        steps_before=header["steps_before"],
        policy_version=header["policy_version"],
        teacher_version=header["teacher_version"],
        observations=observations,
        **{name: arrays[name] for name in _STEP_ARRAYS},
        teacher_dist_inputs=arrays.get("teacher_dist_inputs"),
        teacher_value=arrays.get("teacher_value"),
    )


def _column(array: npt.NDArray[Any]) -> Any:
    """Return a one-row list column whose only value is `array`, flattened."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return pa.ListArray.from_arrays(pa.array([0, flat.size], pa.int32()), pa.array(flat))


def _array(column: Any) -> npt.NDArray[Any]:
    values: npt.NDArray[Any] = column.values.to_numpy(zero_copy_only=False)
    values.flags.writeable = False  # of bits (booleans) it is a copy
    return values


def owned(chunk: EncodedChunk) -> EncodedChunk:
    """Return the chunk with a payload that has its memory to itself."""
    if chunk.payload.flags.owndata:
        return chunk
    return replace(chunk, payload=chunk.payload.copy())
