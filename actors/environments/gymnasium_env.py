"""Any Gymnasium environment with a Box observation and Discrete actions, through `make_vec`."""

from typing import Any, Literal

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode
from pydantic import Field, model_validator

from actors.environments.base import (
    EnvironmentSpec,
    Observations,
    StepResult,
    VectorEnvironment,
)
from common.config import StrictModel
from common.errors import ConfigError, MismatchError
from common.policies.spec import ObservationSpec


class GymnasiumConfig(StrictModel):
    """The recipe's `[env]` with `family = "gymnasium"`."""

    family: Literal["gymnasium"] = "gymnasium"
    id: str
    """A registered id, or `module:id` for an environment of your own."""
    trust: bool = False
    """Whether a module that `id` names may be imported, which runs its code."""
    kwargs: dict[str, Any] = Field(default_factory=dict)
    """Given to the environment's constructor."""
    vectorization: Literal["sync", "async"] = "sync"
    """Copies in this process, or each in a process of its own (for slow environments)."""

    @model_validator(mode="after")
    def _no_code_without_trust(self) -> "GymnasiumConfig":
        module, separator, _ = self.id.partition(":")
        if separator and not self.trust:
            raise ValueError(
                f"id = {self.id!r} imports the module {module}, which runs its code; if you trust "
                f"it, set env.trust = true"
            )
        return self


class GymnasiumEnvironment(VectorEnvironment):
    """N copies of a Gymnasium environment."""

    def __init__(self, config: GymnasiumConfig, *, num_envs: int, num_threads: int) -> None:
        try:
            self._env = gymnasium.make_vec(
                config.id,
                num_envs=num_envs,
                vectorization_mode=config.vectorization,
                vector_kwargs={"autoreset_mode": AutoresetMode.NEXT_STEP},
                **config.kwargs,
            )
        except (
            gymnasium.error.Error,
            AssertionError,
            ImportError,
            TypeError,
            ValueError,
        ) as error:
            first = (str(error) or type(error).__name__).splitlines()[0]
            raise ConfigError(f"env.id = {config.id!r}: cannot make it ({first})") from None
        self.num_envs = num_envs
        observation, action = self._env.single_observation_space, self._env.single_action_space
        if not isinstance(action, Discrete) or action.start != 0:
            raise MismatchError(
                f"env.id = {config.id!r}: its actions are {action}; only Discrete actions from 0 "
                f"are supported"
            )
        if not isinstance(observation, Box) or len(observation.shape) != 1:
            raise MismatchError(
                f"env.id = {config.id!r}: its observations are {observation}; only vectors are "
                f"supported (for Atari use family = 'atari')"
            )
        self.spec = EnvironmentSpec(
            observation=ObservationSpec(shape=observation.shape, dtype="float32"),
            num_actions=int(action.n),
            action_meanings=None,
            frame_stack=None,
        )

    def reset(self, seed: int) -> Observations:
        """Reset all copies; copy i gets seed + i."""
        return self._observations(self._env.reset(seed=seed)[0])

    def step(self, actions: npt.NDArray[np.int64]) -> StepResult:
        """Take actions [N]."""
        observations, rewards, terminated, truncated, _ = self._env.step(actions)
        return StepResult(
            self._observations(observations), rewards.astype(np.float32), terminated, truncated
        )

    def close(self) -> None:
        """Close all copies."""
        self._env.close()

    def _observations(self, observations: Any) -> Observations:
        array: Observations = np.array(observations, dtype=np.float32)
        return array
