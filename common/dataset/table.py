"""A chunk as a table: one row an observation.

The rows of an env copy lie together, in the order of time; then come those of the next copy. T rows
of one copy are a sequence. Legend: as in `common.trajectory`.

| column                | type             | is                                               |
|-----------------------|------------------|--------------------------------------------------|
| `sequence`            | int64            | number of the sequence, from 0 in every dataset  |
| `step`                | int32            | 0 to T − 1 within the sequence                   |
| `env_runner`          | int32            | of the chunk's id                                |
| `incarnation`         | int32            | of the chunk's id                                |
| `chunk`               | int32            | of its id: an env copy goes on in the next one   |
| `env_copy`            | int32            | 0 to N − 1                                       |
| `observation`         | list of float32  | of vectors                                       |
| `frames`              | list of binary   | of stacked frames: the planes (H · W bytes) that |
|                       |                  | the row adds; one where the stack goes on from   |
|                       |                  | the row before, else all S, oldest first         |
| `action`              | int32, or a list | taken in the observation                         |
|                       | of float32       |                                                  |
| `reward`              | float32          | raw                                              |
| `terminated`          | bool             |                                                  |
| `truncated`           | bool             |                                                  |
| `valid`               | bool             | false where the action was ignored (autoreset)   |
| `acting_policy`       | string           | "teacher" or "student"                           |
| `behavior_log_prob`   | float32          | of the action taken                              |
| `teacher_dist_inputs` | list of float32  | what the teacher says of the observation         |
| `teacher_value`       | float32          | where the teacher has a value head               |
| `policy_version`      | int32            | of the student that may have acted               |
| `teacher_version`     | int32            | of the teacher that labelled                     |
| `steps_before`        | int64            | transitions that its env runner had before       |

The schema's metadata carries format and version, and what a chunk's arrays need beyond the rows.
"""

import json
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from common.frames import FrameObservations
from common.trajectory import STUDENT, TEACHER, ChunkId, TrajectoryChunk, VectorObservations

FORMAT: Final = "stillhouse/dataset"
VERSION: Final = 1
METADATA = b"stillhouse"

NAMES: dict[int, str] = {TEACHER: "teacher", STUDENT: "student"}
KEYS = ("sequence", "env_runner", "incarnation", "chunk", "env_copy", "policy_version")
"""Columns that hardly change from row to row."""

_PLAIN = {
    "reward": "rewards",
    "terminated": "terminated",
    "truncated": "truncated",
    "valid": "valid",
    "behavior_log_prob": "behavior_log_prob",
}
"""Columns that are arrays [T, N] of the chunk, by the chunk's name."""


def to_table(chunk: TrajectoryChunk, *, first_sequence: int = 0) -> pa.Table:
    """Return a chunk's rows.

    Args:
        chunk: with labels.
        first_sequence: number of its first env copy's sequence.

    Raises:
        ValueError: it has no labels.
    """
    num_steps, num_envs = chunk.valid.shape
    rows = num_steps * num_envs
    envs = np.repeat(np.arange(num_envs), num_steps)
    frames = chunk.observations if isinstance(chunk.observations, FrameObservations) else None
    labels = chunk.labels
    columns = {
        "sequence": pa.array(first_sequence + envs, pa.int64()),
        "step": pa.array(np.tile(np.arange(num_steps, dtype=np.int32), num_envs)),
        "env_runner": _constant(chunk.chunk_id.runner, rows, np.int32),
        "incarnation": _constant(chunk.chunk_id.incarnation, rows, np.int32),
        "chunk": _constant(chunk.chunk_id.sequence, rows, np.int32),
        "env_copy": pa.array(envs, pa.int32()),
    }
    if isinstance(chunk.observations, VectorObservations):
        columns["observation"] = _vectors(_by_copy(chunk.observations.values))
    else:
        columns["frames"] = _frames(chunk.observations)
    actions = _by_copy(chunk.actions)
    columns["action"] = pa.array(actions) if actions.ndim == 1 else _vectors(actions)
    columns |= {name: pa.array(_by_copy(getattr(chunk, key))) for name, key in _PLAIN.items()}
    acting = np.array([NAMES[TEACHER], NAMES[STUDENT]], object)[_by_copy(chunk.acting_policy)]
    columns["acting_policy"] = pa.array(acting, pa.string())
    columns["teacher_dist_inputs"] = _vectors(_by_copy(labels).astype(np.float32))
    if chunk.teacher_value is not None:
        columns["teacher_value"] = pa.array(_by_copy(chunk.teacher_value))
    columns["policy_version"] = _constant(chunk.policy_version, rows, np.int32)
    columns["teacher_version"] = _constant(chunk.teacher_version, rows, np.int32)
    columns["steps_before"] = _constant(chunk.steps_before, rows, np.int64)
    about = {
        "format": FORMAT,
        "version": VERSION,
        "labels": str(labels.dtype),
        "frames": None if frames is None else [frames.stack, *frames.planes.shape[1:]],
    }
    fields = [pa.field(name, column.type, nullable=False) for name, column in columns.items()]
    schema = pa.schema(fields, metadata={METADATA: json.dumps(about)})
    return pa.Table.from_arrays(list(columns.values()), schema=schema)


def from_table(table: pa.Table, *, task_id: str) -> TrajectoryChunk:
    """Return the chunk that `to_table` took apart.

    Args:
        table: all of its rows, in their order.
        task_id: which the folder tells.

    Raises:
        ValueError, LookupError, TypeError, pa.ArrowException: it is no such table.
    """
    about = about_of(table.schema)
    num_envs = _numbers(table, "env_copy")[-1] + 1
    num_steps, rest = divmod(len(table), num_envs)
    if rest or (_numbers(table, "step") != np.tile(np.arange(num_steps), num_envs)).any():
        raise ValueError(f"{len(table)} rows that are no sequences of {num_envs} env copies")

    def by_time(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        shaped = values.reshape(num_envs, num_steps, *values.shape[1:])
        return np.ascontiguousarray(shaped.swapaxes(0, 1))

    observations: FrameObservations | VectorObservations
    if about["frames"] is None:
        observations = VectorObservations(by_time(_matrix(table, "observation")))
    else:
        observations = _observations(table, about["frames"], (num_envs, num_steps))
    of_student = pc.equal(table["acting_policy"], NAMES[STUDENT])
    is_list = pa.types.is_fixed_size_list(table.schema.field("action").type)
    actions = _matrix(table, "action") if is_list else _numbers(table, "action")
    labels = _matrix(table, "teacher_dist_inputs").astype(about["labels"])
    has_value = "teacher_value" in table.schema.names
    return TrajectoryChunk(
        chunk_id=ChunkId(*(_scalar(table, key) for key in ("env_runner", "incarnation", "chunk"))),
        task_id=task_id,
        steps_before=_scalar(table, "steps_before"),
        policy_version=_scalar(table, "policy_version"),
        teacher_version=_scalar(table, "teacher_version"),
        observations=observations,
        actions=by_time(actions),
        acting_policy=by_time(of_student.to_numpy().astype(np.uint8)),
        **{key: by_time(_numbers(table, name)) for name, key in _PLAIN.items()},
        teacher_dist_inputs=by_time(labels),
        teacher_value=by_time(_numbers(table, "teacher_value")) if has_value else None,
    )


def about_of(schema: pa.Schema) -> dict[str, Any]:
    """Return what the metadata says of a table.

    Raises:
        ValueError, LookupError, TypeError: it is no table of a dataset, or of another version.
    """
    about: dict[str, Any] = json.loads((schema.metadata or {})[METADATA])
    if about["format"] != FORMAT or about["version"] != VERSION:
        raise ValueError(f"{about['format']} of version {about['version']}, not {VERSION}")
    return about


def _by_copy(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return an array [T, N, …] as rows [N · T, …]."""
    return np.ascontiguousarray(array.swapaxes(0, 1)).reshape(-1, *array.shape[2:])


def _constant(value: int, rows: int, dtype: Any) -> pa.Array:
    return pa.array(np.full(rows, value, dtype))


def _vectors(rows: npt.NDArray[Any]) -> pa.Array:
    """Return rows [R, D] as a column of lists."""
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])


def _frames(observations: FrameObservations) -> pa.Array:
    """Return the planes that each row adds; planes lie in the order of the rows already."""
    planes = np.ascontiguousarray(observations.planes)
    stops = observations.last_plane.T.reshape(-1) + 1
    offsets = np.concatenate([[0], stops]).astype(np.int32)
    if stops[-1] != len(planes) or not np.isin(np.diff(offsets), [1, observations.stack]).all():
        raise ValueError("the planes of a chunk must lie in the order of its rows")
    # Binaries of one size would be an Arrow type of their own, which pandas cannot read in lists.
    ends = np.arange(len(planes) + 1, dtype=np.int32) * np.int32(planes[0].size)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(planes)]
    values = pa.Array.from_buffers(pa.binary(), len(planes), buffers)
    return pa.ListArray.from_arrays(pa.array(offsets), values)


def _observations(table: pa.Table, frames: list[int], rows: tuple[int, int]) -> FrameObservations:
    stack, height, width = frames
    column = _whole(table, "frames")
    values = column.flatten()
    _, ends, data = values.buffers()
    starts = np.frombuffer(ends, np.int32, len(values) + 1, 4 * values.offset)
    if (np.diff(starts) != height * width).any():
        raise ValueError(f"frames that have not {height} · {width} bytes")
    planes = np.frombuffer(data, np.uint8, starts[-1] - starts[0], starts[0])
    lengths = pc.list_value_length(column).to_numpy()
    return FrameObservations(
        planes=planes.reshape(-1, height, width),
        last_plane=np.ascontiguousarray((lengths.cumsum() - 1).reshape(rows).T, np.int32),
        stack=stack,
    )


def _whole(table: pa.Table, name: str) -> pa.Array:
    column = table[name].combine_chunks()
    return column.chunk(0) if isinstance(column, pa.ChunkedArray) else column


def _numbers(table: pa.Table, name: str) -> npt.NDArray[Any]:
    found: npt.NDArray[Any] = _whole(table, name).to_numpy(zero_copy_only=False)
    return found


def _matrix(table: pa.Table, name: str) -> npt.NDArray[Any]:
    column = _whole(table, name)
    found: npt.NDArray[Any] = column.flatten().to_numpy(zero_copy_only=False)
    return found.reshape(len(column), column.type.list_size)


def _scalar(table: pa.Table, name: str) -> int:
    return int(_numbers(table, name)[0])
