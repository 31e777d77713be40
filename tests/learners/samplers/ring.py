"""A ring of rows as the window keeps one, for the tests of samplers."""

from collections import deque

import numpy as np
import torch

from learners.samplers import Sampler

CPU = torch.device("cpu")


class Ring:
    """Puts chunks of rows behind each other and tells a sampler; the oldest make room."""

    def __init__(self, sampler: Sampler, capacity: int) -> None:
        self.sampler = sampler
        self._capacity = capacity
        self._head = 0
        self._chunks: deque[range] = deque()

    def insert(self, num_rows: int, *, revisited: bool = False) -> range:
        """Add a chunk and return its rows."""
        if self._head + num_rows > self._capacity:
            self._head = 0
        new = range(self._head, self._head + num_rows)
        while any(new.start < c.stop and c.start < new.stop for c in self._chunks):
            oldest = self._chunks.popleft()
            self.sampler.remove(oldest.start, oldest.stop)
        self._chunks.append(new)
        self._head = new.stop
        self.sampler.insert(new.start, new.stop, revisited=revisited)
        return new

    @property
    def rows(self) -> set[int]:
        """Rows that are there."""
        return {row for chunk in self._chunks for row in chunk}


def drawn(sampler: Sampler, num_rows: int, *, seed: int | np.random.Generator = 0) -> list[int]:
    """Draw and return the rows."""
    rows: list[int] = sampler.draw(np.random.default_rng(seed), num_rows).rows.tolist()
    return rows
