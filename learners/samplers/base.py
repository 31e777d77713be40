"""What every sampler is. B = rows drawn.

A row is a place in the window's ring. Chunks take consecutive rows, come whole and leave whole,
oldest first; the window tells its sampler of both. Rows are drawn with replacement unless a
sampler says otherwise.
"""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
import torch


class Draw(NamedTuple):
    """Rows to train on, on the window's device."""

    rows: torch.Tensor  # [B] int64
    weights: torch.Tensor | None = None
    """[B] float32 factors of the samples' losses, or None where all are 1."""
    group_size: int | None = None
    """Rows of a task, where the rows are of several, task after task."""

    def split(self, size: int) -> list["Draw"]:
        """Return the same in parts of `size` rows of one task; a task's last may have fewer."""
        if self.group_size is not None:
            return [part for group in self._parts(self.group_size) for part in group.split(size)]
        return self._parts(size)

    def _parts(self, size: int) -> list["Draw"]:
        rows = torch.split(self.rows, size)
        if self.weights is None:
            return [Draw(part) for part in rows]
        weights = torch.split(self.weights, size)
        return [Draw(*part) for part in zip(rows, weights, strict=True)]


class Sampler(ABC):
    """Chooses rows; draws depend on the calls before and on the generator, on nothing else."""

    @abstractmethod
    def insert(self, start: int, stop: int, *, revisited: bool) -> None:
        """Take note that the rows [start, stop) hold a chunk from now on.

        Args:
            start: its first row.
            stop: the row after its last; `start` where none of its rows is valid.
            revisited: whether the chunk was in the window before.
        """

    @abstractmethod
    def remove(self, start: int, stop: int) -> None:
        """Take note that the oldest chunk, in the rows [start, stop), leaves; it is not drawn."""

    @abstractmethod
    def draw(self, rng: np.random.Generator, num_rows: int) -> Draw:
        """Choose `num_rows` rows of the chunks that are there; there must be at least one row."""

    def update(self, rows: torch.Tensor, losses: torch.Tensor) -> None:
        """Take note of what training on the rows of the last draw gave, before chunks move.

        Args:
            rows: [B] as drawn.
            losses: [B] float32, without importance weights; they may be NaN or infinite.
        """
        return

    def state(self) -> dict[str, Any]:
        """Return what the rows that are there do not tell by themselves, for a checkpoint."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a state, once the rows of then are there again in their places."""
        return
