"""The window: decoded transitions in the learner's memory, sampled many times.

Frame planes lie once in a ring of uint8 planes; a transition is the index of its oldest plane and
its labels. Chunks come in whole and leave whole, oldest first. Rows that are not valid never come
in. A sampler (`learners.samplers`) hears of both and chooses the rows to gather.

Where the recipe asks for sequences of L > 1 rows, the rows of an env copy lie side by side, in the
order of time and with those that are not valid; sequence number i is the rows [i · L, (i + 1) · L),
and the sampler hears of sequences and chooses among them instead.

Where a run refreshes its teacher, rows know the version that labelled them, and those whose labels
are not the present teacher's are labelled anew as they are gathered (`learners.relabeller`).
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from common.codec import EncodedChunk
from common.errors import ConfigError
from common.frames import FrameObservations
from common.networks.inputs import cut_planes, join_blocks
from common.policies.spec import DistKind
from common.trajectory import TrajectoryChunk, VectorObservations
from learners.batch import DistillBatch, Sequences
from learners.relabeller import Relabeller
from learners.rings import empty_ring, host_memory, stacks_of
from learners.samplers import Sampler

PLANES_PER_TRANSITION = 1.25
"""Planes reserved a transition: a stack's head on every chunk and episode costs a few more."""

_OF_SEQUENCES = ("valid", "terminated", "truncated", "behavior_log_prob", "acting_policy")
"""What of a chunk only sequences bring along."""

Array = npt.NDArray[Any]


class _Segment(NamedTuple):
    """Where a chunk lies: rows and planes, each [start, stop)."""

    row_start: int
    row_stop: int
    plane_start: int
    plane_stop: int
    num_valid: int
    encoded: EncodedChunk | None
    """The chunk, where it is kept for a checkpoint."""
    revisited: bool


class WindowContent(NamedTuple):
    """What lies in a window, and where: enough to lay it out again in the same way."""

    row_start: int
    plane_start: int
    chunks: list[EncodedChunk]
    """Oldest first."""
    revisited: list[bool]
    """Of each, whether it had been in the window before."""


class TransitionWindow:
    """A ring of transitions.

    Args:
        capacity: transitions held, at least two chunks.
        teacher_dist: what the teacher's outputs are.
        device: where frames and labels lie.
        sampler: told of the rows that come and go.
        block: side of the squares that planes are cut into (`common.networks.inputs`), or None to
            keep them whole.
        sequence_length: L.
        burn_in: rows at a sequence's start that nothing learns from.
        relabeller: labels stale rows anew, where the teacher is refreshed.
    """

    def __init__(
        self,
        capacity: int,
        *,
        teacher_dist: DistKind,
        device: torch.device,
        sampler: Sampler,
        block: int | None = None,
        sequence_length: int = 1,
        burn_in: int = 0,
        relabeller: Relabeller | None = None,
    ) -> None:
        self._capacity = capacity
        self._relabeller = relabeller
        self._sequence_length = sequence_length
        self._burn_in = burn_in
        self._teacher_dist = teacher_dist
        self._device = device
        self._sampler = sampler
        self._block = block
        self._segments: deque[_Segment] = deque()
        self._row_head = 0
        self._plane_head = 0
        self._planes: torch.Tensor | None = None  # uint8 [planes, H, W] or squares
        self._stacks: torch.Tensor | None = None  # the same memory: [planes - S + 1, S, H, W]
        self._columns: dict[str, torch.Tensor] = {}

    def __len__(self) -> int:
        """Return the number of transitions stored; rows that are not valid are none."""
        return sum(segment.num_valid for segment in self._segments)

    def insert(
        self,
        chunk: TrajectoryChunk,
        *,
        revisited: bool = False,
        encoded: EncodedChunk | None = None,
    ) -> None:
        """Add a chunk's rows; the oldest chunks leave where room is short.

        Args:
            chunk: the chunk.
            revisited: whether it was in the window before.
            encoded: the same chunk compressed, to be kept for `content`.

        Raises:
            ConfigError: the chunk is no whole number of sequences long.
        """
        rows = self._rows_of(chunk)
        columns: dict[str, Array] = {
            "actions": rows(chunk.actions),
            "rewards": rows(chunk.rewards),
            "teacher_dist_inputs": rows(chunk.labels),
        }
        if chunk.teacher_value is not None:
            columns["teacher_value"] = rows(chunk.teacher_value)
        if self._relabeller is not None:
            versions = np.full(chunk.valid.shape, chunk.teacher_version, np.int32)
            columns["teacher_version"] = rows(versions)
        if self._sequence_length > 1:
            columns |= {name: rows(getattr(chunk, name)) for name in _OF_SEQUENCES}
        planes: npt.NDArray[np.uint8] | None = None
        if isinstance(chunk.observations, FrameObservations):
            planes = chunk.observations.planes
            newest = rows(chunk.observations.last_plane).astype(np.int64)
            columns["first_plane"] = newest - (chunk.observations.stack - 1)
        else:
            columns["observations"] = rows(chunk.observations.values)
        if not self._columns:
            self._allocate(columns, chunk.observations)
        num_planes = 0 if planes is None else len(planes)
        segment = self._make_room(len(columns["actions"]), num_planes)
        segment = segment._replace(
            num_valid=chunk.num_transitions, encoded=encoded, revisited=revisited
        )
        if self._planes is not None and planes is not None:
            place = self._planes[segment.plane_start : segment.plane_stop]
            with host_memory(place) as target:
                if self._block is None:
                    np.copyto(target, planes)
                else:
                    cut_planes(planes, self._block, target)
            columns["first_plane"] += segment.plane_start
        for name, column in columns.items():
            with host_memory(self._columns[name][segment.row_start : segment.row_stop]) as target:
                np.copyto(target, column)
        self._segments.append(segment)
        self._sampler.insert(*self._draws_of(segment), revisited=revisited)

    def content(self) -> WindowContent:
        """Return what lies in the window; every chunk must have come with its compressed form."""
        segments = self._segments
        chunks = [segment.encoded for segment in segments if segment.encoded is not None]
        assert len(chunks) == len(segments), "a chunk of the window was not kept"
        return WindowContent(
            row_start=segments[0].row_start if segments else 0,
            plane_start=segments[0].plane_start if segments else 0,
            chunks=chunks,
            revisited=[segment.revisited for segment in segments],
        )

    def fill(self, content: WindowContent, chunks: Iterable[TrajectoryChunk]) -> None:
        """Lay out an empty window as another of the same capacity was.

        Args:
            content: of the other.
            chunks: `content.chunks` decoded, and labelled where they must be.
        """
        assert not self._segments, "the window is not empty"
        self._row_head, self._plane_head = content.row_start, content.plane_start
        for chunk, encoded, revisited in zip(
            chunks, content.chunks, content.revisited, strict=True
        ):
            self.insert(chunk, revisited=revisited, encoded=encoded)

    def gather(self, rows: torch.Tensor) -> DistillBatch:
        """Return the transitions of rows that the sampler drew; frames become stacks here.

        Args:
            rows: [B] int64, or the numbers [S] of sequences.
        """
        rows = self._steps_of(rows)
        if self._relabeller is not None:
            self._label_stale(rows, self._relabeller)
        columns = {
            name: column.index_select(0, rows)
            for name, column in self._columns.items()
            if name not in ("observations", "first_plane")
        }
        actions = columns["actions"]
        return DistillBatch(
            observations=self._observations(rows),
            actions=actions if actions.is_floating_point() else actions.long(),
            rewards=columns["rewards"],
            teacher_dist_inputs=columns["teacher_dist_inputs"].float(),
            teacher_dist=self._teacher_dist,
            teacher_value=columns.get("teacher_value"),
            teacher_version=columns.get("teacher_version"),
            sequences=self._sequences(columns),
        )

    def num_valid(self, rows: torch.Tensor) -> torch.Tensor:
        """Return how many valid rows the sampler drew, [] int64, on the window's device."""
        learnt = self._steps_of(rows)[self._burn_in * len(rows) :]
        return self._columns["valid"].index_select(0, learnt).sum()

    def _observations(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the observations of rows [B], [B, *shape]; frames as squares where they lie so."""
        if self._stacks is None:
            return self._columns["observations"].index_select(0, rows)
        return self._stacks.index_select(0, self._columns["first_plane"].index_select(0, rows))

    def _label_stale(self, rows: torch.Tensor, relabeller: Relabeller) -> None:
        """Give those of the rows [B] the present teacher's labels that have another version's."""
        versions = self._columns["teacher_version"]
        stale = torch.unique(rows[versions.index_select(0, rows) != relabeller.version])
        if not len(stale):
            return
        observations = self._observations(stale)
        if self._planes is not None and self._block is not None:
            observations = join_blocks(observations.permute(0, 4, 1, 2, 3), self._block)
        labels = relabeller.label(observations.cpu().numpy(), versions.index_select(0, stale))
        found = {"teacher_dist_inputs": labels.dist_inputs, "teacher_value": labels.value}
        for name, values in found.items():
            if values is not None:
                self._columns[name][stale] = torch.from_numpy(values).to(self._device)
        versions[stale] = labels.version

    def _rows_of(self, chunk: TrajectoryChunk) -> Callable[[Array], Array]:
        """Return what takes the window's rows from an array [T, N, …] of a chunk."""
        steps, length = len(chunk.valid), self._sequence_length
        if steps % length:
            raise ConfigError(
                f"learner.sequence_length = {length}: a chunk of {steps} steps is no whole number "
                f"of sequences; set it to a divisor of {steps}"
            )
        if length > 1:
            return lambda array: array.swapaxes(0, 1).reshape(-1, *array.shape[2:])
        valid = chunk.valid.reshape(-1)
        return lambda array: array.reshape(valid.size, *array.shape[2:])[valid]

    def _draws_of(self, segment: _Segment) -> tuple[int, int]:
        """Return what the sampler knows a chunk's place by: rows or sequences, [start, stop)."""
        length = self._sequence_length
        return segment.row_start // length, segment.row_stop // length

    def _steps_of(self, draws: torch.Tensor) -> torch.Tensor:
        """Return the rows of what was drawn, time-major."""
        if self._sequence_length == 1:
            return draws
        steps = torch.arange(self._sequence_length, device=self._device)
        return (draws * self._sequence_length + steps[:, None]).reshape(-1)

    def _sequences(self, columns: dict[str, torch.Tensor]) -> Sequences | None:
        if self._sequence_length == 1:
            return None
        told = {name: columns[name] for name in _OF_SEQUENCES}
        valid = told.pop("valid")
        count = len(valid) // self._sequence_length
        starts = torch.zeros_like(valid)
        starts[count:] = ~valid[:-count]
        if self._burn_in:
            valid[: self._burn_in * count] = False  # a copy: it was gathered
        return Sequences(
            num_steps=self._sequence_length,
            valid=valid,
            starts=starts,
            burn_in=self._burn_in,
            **told,
        )

    def _allocate(
        self,
        columns: dict[str, Array],
        observations: FrameObservations | VectorObservations,
    ) -> None:
        """Reserve the rings in the types of the first chunk."""
        for name, column in columns.items():
            shape, dtype = (self._capacity, *column.shape[1:]), torch.from_numpy(column[:0]).dtype
            self._columns[name] = torch.empty(shape, dtype=dtype, device=self._device)
        if isinstance(observations, FrameObservations):
            _, height, width = observations.planes.shape
            b = self._block
            plane = (height, width) if b is None else (height // b, width // b, b * b)
            shape = (int(self._capacity * PLANES_PER_TRANSITION), *plane)
            self._planes = empty_ring(shape, self._device)
            self._stacks = stacks_of(self._planes, observations.stack)

    def _make_room(self, num_rows: int, num_planes: int) -> _Segment:
        """Find a place behind the newest chunk and drop the chunks that lie in it."""
        if self._row_head + num_rows > self._capacity:
            self._row_head = 0
        plane_capacity = 0 if self._planes is None else len(self._planes)
        if self._plane_head + num_planes > plane_capacity:
            self._plane_head = 0
        place = _Segment(
            self._row_head,
            self._row_head + num_rows,
            self._plane_head,
            self._plane_head + num_planes,
            num_valid=0,
            encoded=None,
            revisited=False,
        )
        while any(_overlap(place, segment) for segment in self._segments):
            oldest = self._segments.popleft()
            self._sampler.remove(*self._draws_of(oldest))
        self._row_head, self._plane_head = place.row_stop, place.plane_stop
        return place


def _overlap(a: _Segment, b: _Segment) -> bool:
    rows = a.row_start < b.row_stop and b.row_start < a.row_stop
    planes = a.plane_start < b.plane_stop and b.plane_start < a.plane_stop
    return rows or planes
