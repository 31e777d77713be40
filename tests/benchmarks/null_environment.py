"""An environment without computation that keeps its own pace, to measure everything around it.

`tests.benchmarks.null_environment:StillhouseNull-v0`: observations are noise, episodes have a
fixed length, and every copy takes one step each `period_s` seconds, asleep in between, so that
many env runners can share few cores. A copy that comes late makes up for one step, no more.
"""

import time
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box, Discrete

ENV_ID = "tests.benchmarks.null_environment:StillhouseNull-v0"
OBSERVATION_SIZE = 32
EPISODE_STEPS = 200

SHORTEST_SLEEP_S = 0.005
"""Copies in one process step one after the other: the first one sleeps for all of them."""


class NullEnvironment(gymnasium.Env[npt.NDArray[np.float32], np.int64]):
    """One copy.

    Args:
        period_s: seconds from one step to the next.
    """

    def __init__(self, period_s: float = 0.0) -> None:
        self.observation_space = Box(0.0, 1.0, (OBSERVATION_SIZE,), np.float32)
        self.action_space = Discrete(2)
        self._period_s = period_s
        self._steps = 0
        self._due = time.monotonic()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        """Start an episode, which takes the time of a step."""
        super().reset(seed=seed)
        self._wait()
        self._steps = 0
        return self._observe(), {}

    def step(
        self, action: np.int64
    ) -> tuple[npt.NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Wait for the step's time."""
        self._wait()
        self._steps += 1
        return self._observe(), 1.0, False, self._steps >= EPISODE_STEPS, {}

    def _observe(self) -> npt.NDArray[np.float32]:
        return self.np_random.random(OBSERVATION_SIZE, dtype=np.float32)

    def _wait(self) -> None:
        now = time.monotonic()
        if self._due - now > SHORTEST_SLEEP_S:
            time.sleep(self._due - now)
        self._due = max(self._due + self._period_s, now)


gymnasium.register("StillhouseNull-v0", entry_point=f"{__name__}:NullEnvironment")
