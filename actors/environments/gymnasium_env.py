"""Any Gymnasium environment with vectors as observations, through `make_vec`.

Matrices of floats become vectors. Actions are Discrete, or vectors within bounds (Box).
"""

from typing import Any, Literal

import gymnasium
import numpy as np
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
from common.policies.box import BoxActions
from common.policies.spec import ObservationSpec
from common.vector_observations import with_vectors


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
                wrappers=[with_vectors],
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
        num_actions, self._box = _actions(config, action)
        if not isinstance(observation, Box) or len(observation.shape) != 1:
            raise MismatchError(
                f"env.id = {config.id!r}: its observations are {observation}; only vectors "
                f"and matrices of floats are supported (for Atari use family = 'atari')"
            )
        self.spec = EnvironmentSpec(
            observation=ObservationSpec(shape=observation.shape, dtype="float32"),
            num_actions=num_actions,
            action_meanings=None,
            frame_stack=None,
            action_box=self._box,
        )

    def reset(self, seed: int) -> Observations:
        """Reset all copies; copy i gets seed + i."""
        return self._observations(self._env.reset(seed=seed)[0])

    def step(self, actions: Any) -> StepResult:
        """Take actions [N], or [N, D] in units of the Box."""
        if self._box is not None:
            actions = self._box.from_units(actions)
        observations, rewards, terminated, truncated, _ = self._env.step(actions)
        # An environment of somebody's own may write its next step into the same arrays.
        return StepResult(
            self._observations(observations),
            rewards.astype(np.float32),
            np.array(terminated, np.bool_),
            np.array(truncated, np.bool_),
        )

    def close(self) -> None:
        """Close all copies."""
        self._env.close()

    def _observations(self, observations: Any) -> Observations:
        array: Observations = np.array(observations, dtype=np.float32)
        return array


def _actions(config: GymnasiumConfig, space: Any) -> tuple[int | None, BoxActions | None]:
    """Return the number of actions, or the bounds of a vector of numbers."""
    if isinstance(space, Discrete) and space.start == 0:
        return int(space.n), None
    is_vector = isinstance(space, Box) and len(space.shape) == 1
    if is_vector and np.isfinite([space.low, space.high]).all() and (space.low < space.high).all():
        return None, BoxActions(low=tuple(space.low.tolist()), high=tuple(space.high.tolist()))
    raise MismatchError(
        f"env.id = {config.id!r}: its actions are {space}; only Discrete actions from 0 and "
        f"vectors within finite bounds (Box) are supported"
    )
