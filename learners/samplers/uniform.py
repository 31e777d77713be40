"""Every row with the same probability, with replacement."""

from collections import deque

import numpy as np
import numpy.typing as npt
import torch

from common.replay.sampler_config import Uniform
from learners.samplers.base import Draw, Sampler


class UniformSampler(Sampler):
    """Keeps the places of the chunks; a draw does not depend on how many rows there are."""

    def __init__(self, config: Uniform, *, capacity: int, device: torch.device) -> None:
        self._device = device
        self._chunks: deque[tuple[int, int]] = deque()  # [start, stop), oldest first
        self._places: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None = None

    def insert(self, start: int, stop: int, *, revisited: bool) -> None:
        """Add the newest chunk."""
        self._chunks.append((start, stop))
        self._places = None

    def remove(self, start: int, stop: int) -> None:
        """Drop the oldest chunk."""
        oldest = self._chunks.popleft()
        assert oldest == (start, stop), f"{(start, stop)} is not the oldest chunk {oldest}"
        self._places = None

    def draw(self, rng: np.random.Generator, num_rows: int) -> Draw:
        """Draw rows uniformly."""
        rows = torch.from_numpy(self.draw_on_host(rng, num_rows))
        return Draw(rows.to(self._device, non_blocking=True))

    def draw_on_host(self, rng: np.random.Generator, num_rows: int) -> npt.NDArray[np.int64]:
        """Draw rows [num_rows] uniformly, in this process's memory."""
        if self._places is None:
            starts, stops = np.array(self._chunks).T
            ends: npt.NDArray[np.int64] = np.cumsum(stops - starts)
            # What to add to the n-th row, counted from the oldest, to get its place.
            self._places = ends, stops - ends
        ends, offsets = self._places
        draws = rng.integers(ends[-1], size=num_rows)
        rows: npt.NDArray[np.int64] = draws + offsets[ends.searchsorted(draws, side="right")]
        return rows
