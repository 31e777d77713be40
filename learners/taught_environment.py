"""The environments in which a teacher is trained and evaluated: those that env runners play in.

Learners know no environment. Whoever trains a teacher hands in what makes N copies, and the teacher
sees what the students of its recipe will be labelled on: the same frames of an Atari game, the same
vectors of everything else.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from common.policies.spec import PolicySpec

RECENT_EPISODES = 100
"""Episodes of training that its mean return is told of."""


class Copies(Protocol):
    """N env copies with Gymnasium's NEXT_STEP autoreset (`actors.environments` makes them)."""

    def reset(self, seed: int) -> Any:
        """Reset all copies with seeds that follow from `seed`; return observations [N, *shape]."""

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any]:
        """Take actions [N]; return observations, raw rewards, terminated and truncated, all new."""

    def close(self) -> None:
        """Give back what the copies hold."""


MakeCopies = Callable[[int], Copies]
"""Makes so many env copies."""


class EpisodeReturns:
    """Raw returns of the episodes that were played in N env copies.

    Args:
        num_envs: N.
    """

    def __init__(self, num_envs: int) -> None:
        self._returns = np.zeros(num_envs)
        self._starting = np.zeros(num_envs, dtype=bool)
        self.episodes = 0
        """That have ended."""
        self.recent: deque[float] = deque(maxlen=RECENT_EPISODES)
        """The last ones' returns."""

    def add(self, rewards: npt.NDArray[Any], ended: npt.NDArray[np.bool_]) -> None:
        """Take a step of all copies; the one after an end only resets.

        Args:
            rewards: [N] raw.
            ended: [N], terminated or truncated.
        """
        self._returns += np.where(self._starting, 0.0, rewards)
        for number in np.flatnonzero(ended):
            self.recent.append(float(self._returns[number]))
            self._returns[number] = 0.0
            self.episodes += 1
        self._starting = ended

    def mean(self) -> float:
        """Return the mean of the last returns; NaN before one has ended."""
        return float(np.mean(self.recent)) if self.recent else float("nan")


class TaughtEnvironment(VectorEnv[Any, Any, Any]):
    """Env copies in the way RLlib makes and steps them.

    Args:
        config: `spec` of the teacher, `make_copies`, `num_envs`, and `clip_rewards`: whether RLlib
            gets the rewards' signs.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        spec: PolicySpec = config["spec"]
        assert spec.num_actions is not None
        self.num_envs = config["num_envs"]
        self.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}
        self.single_observation_space = _observation_space(spec)
        self.single_action_space = Discrete(spec.num_actions)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.returns = EpisodeReturns(self.num_envs)
        self._clips = config["clip_rewards"]
        self._copies: Copies = config["make_copies"](self.num_envs)

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset all copies; return observations [N, *shape]."""
        if seed is None:
            seed = int(np.random.default_rng().integers(2**30))
        return self._copies.reset(seed=seed), {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Take actions [N]."""
        observations, rewards, terminated, truncated = self._copies.step(np.asarray(actions))
        self.returns.add(rewards, terminated | truncated)
        if self._clips:
            rewards = np.sign(rewards)
        return observations, rewards, terminated, truncated, {}

    def close_extras(self, **kwargs: Any) -> None:
        """Close all copies."""
        self._copies.close()


def _observation_space(spec: PolicySpec) -> gymnasium.Space[Any]:
    shape = spec.observation.shape
    if spec.observation.dtype == "uint8":
        return Box(0, 255, shape, np.uint8)
    return Box(-np.inf, np.inf, shape, np.float32)
