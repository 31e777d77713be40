"""Several tasks in one learner: a window and a sampler a task, and batches of equal shares.

To the learner they look like one window and one sampler. Tasks lie one after the other in one
numbering of rows: task k has [k · C, (k + 1) · C), where C is the capacity of each.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch

from common.codec import EncodedChunk
from common.policies.spec import DistKind, PolicySpec
from common.replay.sampler_config import SamplerConfig
from common.trajectory import TrajectoryChunk
from learners.batch import DistillBatch
from learners.config import LearnerConfig
from learners.relabeller import Relabeller
from learners.samplers import Draw, Sampler, make_sampler
from learners.window import TransitionWindow, WindowContent


def make_windows(
    student: PolicySpec,
    teacher_dists: Sequence[DistKind],
    *,
    capacity: int,
    sampler: SamplerConfig,
    device: torch.device,
    block: int | None,
    config: LearnerConfig,
    relabeller: Relabeller | None = None,
) -> tuple["Window", Sampler]:
    """Return a student's window, and the sampler that chooses in it.

    Args:
        student: whose heads are the tasks; without heads it is of one.
        teacher_dists: what the teachers' outputs are, in the order of the tasks.
        capacity: transitions, of all tasks together.
        sampler: how to choose.
        device: where frames and labels lie.
        block: see `TransitionWindow`.
        config: how long sequences are.
        relabeller: of a student of one task, see `TransitionWindow`.
    """
    each, length = capacity // len(teacher_dists), config.sequence_length
    samplers = [
        make_sampler(sampler, capacity=each // length, device=device) for _ in teacher_dists
    ]
    windows = [
        TransitionWindow(
            each,
            teacher_dist=dist,
            device=device,
            sampler=told,
            block=block,
            sequence_length=length,
            burn_in=config.burn_in,
            relabeller=relabeller,
        )
        for dist, told in zip(teacher_dists, samplers, strict=True)
    ]
    if not student.heads:
        return windows[0], samplers[0]
    return TaskWindows(student, windows, each), TaskSampler(samplers, each)


class TaskSampler(Sampler):
    """Draws as many rows of every task.

    Args:
        samplers: of the tasks.
        capacity: of each.
    """

    def __init__(self, samplers: Sequence[Sampler], capacity: int) -> None:
        self._samplers = samplers
        self._capacity = capacity

    def insert(self, start: int, stop: int, *, revisited: bool) -> None:
        """Refuse: chunks come to the samplers of their tasks."""
        raise NotImplementedError

    def remove(self, start: int, stop: int) -> None:
        """Refuse: chunks leave from the samplers of their tasks."""
        raise NotImplementedError

    def draw(self, rng: np.random.Generator, num_rows: int) -> Draw:
        """Choose `num_rows` rows, task after task; it must be a multiple of their number."""
        size = num_rows // len(self._samplers)
        draws = [sampler.draw(rng, size) for sampler in self._samplers]
        rows = [draw.rows + task * self._capacity for task, draw in enumerate(draws)]
        weights = [draw.weights for draw in draws if draw.weights is not None]
        return Draw(torch.cat(rows), torch.cat(weights) if weights else None, group_size=size)

    def update(self, rows: torch.Tensor, losses: torch.Tensor) -> None:
        """Tell every task's sampler of its share."""
        count = len(self._samplers)
        shares = zip(self._samplers, rows.chunk(count), losses.chunk(count), strict=True)
        for task, (sampler, own_rows, own_losses) in enumerate(shares):
            sampler.update(own_rows - task * self._capacity, own_losses)


class TaskWindows:
    """The windows of all tasks.

    Args:
        student: whose heads are the tasks.
        windows: of the tasks, in the order of the heads.
        capacity: of each.
    """

    def __init__(
        self, student: PolicySpec, windows: Sequence[TransitionWindow], capacity: int
    ) -> None:
        self._names = [head.name for head in student.heads]
        self._outputs = [student.outputs_of(name) for name in self._names]
        self._windows = dict(zip(self._names, windows, strict=True))
        self._capacity = capacity

    def __len__(self) -> int:
        """Return the number of transitions stored, or 0 until there are some of every task."""
        sizes = [len(window) for window in self._windows.values()]
        return sum(sizes) if all(sizes) else 0

    def insert(
        self,
        chunk: TrajectoryChunk,
        *,
        revisited: bool = False,
        encoded: EncodedChunk | None = None,
    ) -> None:
        """Add a chunk to its task's window."""
        self._windows[chunk.task_id].insert(chunk, revisited=revisited, encoded=encoded)

    def gather(self, rows: torch.Tensor) -> DistillBatch:
        """Return the transitions of rows that are all of one task."""
        task = int(rows[0]) // self._capacity
        name = self._names[task]
        batch = self._windows[name].gather(rows - task * self._capacity)
        return replace(batch, task=name, outputs=self._outputs[task])

    def num_valid(self, rows: torch.Tensor) -> torch.Tensor:
        """Return how many valid rows were drawn: all of them, without sequences."""
        return torch.tensor(len(rows))

    def content(self) -> WindowContent:
        """Refuse: a replay of several tasks is not part of checkpoints."""
        raise NotImplementedError

    def fill(self, content: WindowContent, chunks: Iterable[TrajectoryChunk]) -> None:
        """Refuse: a replay of several tasks is not part of checkpoints."""
        raise NotImplementedError


Window = TransitionWindow | TaskWindows
