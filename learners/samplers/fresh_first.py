"""Rows that were never drawn before come first, of the newest chunk first, in a random order.

With one sample per insert every row is trained on once, soon after it was collected; what a batch
lacks is drawn uniformly. Rows of chunks that come into the window again are not fresh.
"""

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from common.replay.sampler_config import UNIFORM, FreshFirst
from learners.samplers.base import Draw, Sampler
from learners.samplers.uniform import UniformSampler


@dataclass(slots=True, eq=False)
class _Fresh:
    """A chunk with rows that were never drawn."""

    start: int
    rows: npt.NDArray[np.int64]
    """Those rows: in order before the first draw from them, shuffled after."""
    shuffled: bool = False


class FreshFirstSampler(Sampler):
    """Keeps the rows that were never drawn, a chunk at a time."""

    def __init__(self, config: FreshFirst, *, capacity: int, device: torch.device) -> None:
        self._device = device
        self._fresh: deque[_Fresh] = deque()  # oldest first
        self._all = UniformSampler(UNIFORM, capacity=capacity, device=device)

    def insert(self, start: int, stop: int, *, revisited: bool) -> None:
        """Add the newest chunk."""
        self._all.insert(start, stop, revisited=revisited)
        if not revisited and stop > start:
            self._fresh.append(_Fresh(start, np.arange(start, stop)))

    def remove(self, start: int, stop: int) -> None:
        """Drop the oldest chunk."""
        self._all.remove(start, stop)
        if self._fresh and self._fresh[0].start == start and stop > start:
            self._fresh.popleft()

    def draw(self, rng: np.random.Generator, num_rows: int) -> Draw:
        """Draw fresh rows, each once, and the rest uniformly with replacement."""
        parts: list[npt.NDArray[np.int64]] = []
        left = num_rows
        while left and self._fresh:
            newest = self._fresh[-1]
            if not newest.shuffled:
                newest.rows, newest.shuffled = rng.permutation(newest.rows), True
            part, newest.rows = newest.rows[:left], newest.rows[left:]
            if not len(newest.rows):
                self._fresh.pop()
            parts.append(part)
            left -= len(part)
        if left:
            parts.append(self._all.draw_on_host(rng, left))
        rows = torch.from_numpy(np.concatenate(parts))
        return Draw(rows.to(self._device, non_blocking=True))

    def state(self) -> dict[str, Any]:
        """Return the rows that were never drawn."""
        return {"fresh": [[f.start, f.rows.tolist(), f.shuffled] for f in self._fresh]}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take these rows for never drawn, and all others for drawn."""
        self._fresh = deque(
            _Fresh(start, np.array(rows, np.int64), shuffled)
            for start, rows, shuffled in state["fresh"]
        )
