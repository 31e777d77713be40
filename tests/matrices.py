"""An environment whose observations are matrices: a row for each thing that is seen."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

MATRICES = "stillhouse/Matrices-v0"


class Matrices(gymnasium.Env[Any, np.int64]):
    """Shows 0, 1, 2 … in rows, plus 10 for each step; ends after ten.

    Args:
        shape: of an observation.
        dtype: of its numbers.
    """

    action_space = Discrete(2)

    def __init__(self, shape: tuple[int, ...] = (2, 3), dtype: str = "float32") -> None:
        self.observation_space = Box(0, 250, tuple(shape), np.dtype(dtype).type)
        self._first = np.arange(np.prod(shape), dtype=dtype).reshape(shape)
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Start again with step 0."""
        super().reset(seed=seed)
        self._steps = 0
        return self._first, {}

    def step(self, action: np.int64) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take a step, which pays the action."""
        self._steps += 1
        shown = (self._first + 10 * self._steps).astype(self._first.dtype)
        return shown, float(action), self._steps == 10, False, {}


@contextmanager
def matrices_registered() -> Iterator[str]:
    """Register the environment; yield its id."""
    gymnasium.register(MATRICES, entry_point=Matrices)
    try:
        yield MATRICES
    finally:
        del gymnasium.registry[MATRICES]
