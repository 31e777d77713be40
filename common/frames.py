"""Stacked frames stored once.

A stack of S frames shares S − 1 of them with the stack before. `FramePacker` writes each plane
once: the whole stack on a chunk's first row and on the first row of an episode, the newest plane
on every other row. The stack of row (t, n) is then the S planes that end at `last_plane[t, n]`,
whatever the environment fills a fresh stack with.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Planes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameObservations:
    """The stacks of T steps of N env copies."""

    planes: Planes  # [P, H, W] grouped by env copy, along time
    last_plane: npt.NDArray[np.int32]  # [T, N] index of the newest plane of each stack
    stack: int

    @property
    def steps(self) -> tuple[int, int]:
        """(T, N)."""
        return self.last_plane.shape[0], self.last_plane.shape[1]

    def stacks(self) -> Planes:
        """Return every stack, [T, N, S, H, W] (a copy: for tests and small chunks)."""
        offsets = np.arange(1 - self.stack, 1)
        stacks: Planes = self.planes[self.last_plane[..., None] + offsets]
        return stacks

    def take(self, rows: npt.NDArray[np.intp]) -> Planes:
        """Return the stacks of some rows.

        Args:
            rows: [B], row t of env copy n is t · N + n.

        Returns:
            [B, S, H, W], a copy.
        """
        offsets = np.arange(1 - self.stack, 1)
        stacks: Planes = self.planes[self.last_plane.reshape(-1)[rows][:, None] + offsets]
        return stacks


class FramePacker:
    """Collects the planes of one chunk, row by row.

    Args:
        num_steps: T.
        num_envs: N.
        stack: S, frames in a stack.
        height: H.
        width: W.
    """

    def __init__(self, num_steps: int, num_envs: int, stack: int, height: int, width: int) -> None:
        self._stack = stack
        capacity = num_steps + 3 * (stack - 1)
        self._planes: Planes = np.empty((num_envs, capacity, height, width), np.uint8)
        self._last = np.empty((num_steps, num_envs), np.int32)
        self._counts = np.zeros(num_envs, np.int64)
        self._most = 0  # the largest of the counts
        self._envs = np.arange(num_envs)
        self._step = 0

    def append(self, observations: Planes, fresh: npt.NDArray[np.intp]) -> None:
        """Add one row.

        Args:
            observations: [N, S, H, W].
            fresh: numbers of the env copies whose stack does not continue the row before.
        """
        if self._most + self._stack > self._planes.shape[1]:
            self._planes = np.concatenate([self._planes, np.empty_like(self._planes)], axis=1)
        if self._step == 0:
            fresh = self._envs
        if fresh.size:
            for env in fresh:
                start = int(self._counts[env])
                self._planes[env, start : start + self._stack - 1] = observations[env, :-1]
            self._counts[fresh] += self._stack - 1
            self._most = int(self._counts.max())
        self._planes[self._envs, self._counts] = observations[:, -1]
        self._last[self._step] = self._counts
        self._counts += 1
        self._most += 1
        self._step += 1

    def finish(self) -> FrameObservations:
        """Return what was collected and start over."""
        counts = self._counts
        starts = np.cumsum(counts) - counts
        observations = FrameObservations(
            planes=np.concatenate([self._planes[env, : counts[env]] for env in self._envs]),
            last_plane=self._last[: self._step] + starts.astype(np.int32),
            stack=self._stack,
        )
        self._counts = np.zeros_like(counts)
        self._most = self._step = 0
        return observations
