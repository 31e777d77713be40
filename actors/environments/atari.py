"""Atari games on ale-py's own vector environment (stack, max-pool, skip and resize in C++).

Two of its defaults are changed here: rewards are never clipped, and no life counts as an episode,
so that returns are raw and over full games.
"""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from ale_py import roms
from ale_py.vector_env import AtariVectorEnv
from pydantic import Field, model_validator

from actors.environments.base import (
    EnvironmentSpec,
    Observations,
    StepResult,
    VectorEnvironment,
)
from actors.environments.pictures import PictureName
from common.config import StrictModel
from common.errors import ConfigError
from common.policies.spec import ObservationSpec


class AtariConfig(StrictModel):
    """The recipe's `[env]` with `family = "atari"`."""

    family: Literal["atari"] = "atari"
    id: str
    """ROM name in snake case: pong, breakout, space_invaders."""
    frame_skip: int = Field(default=4, ge=1)
    frame_skip_max: int | None = Field(default=None, ge=1)
    """Where given, every action is repeated for a number of frames drawn between `frame_skip` and
    this, both included."""
    frame_stack: int = Field(default=4, ge=1)
    frame_size: int = Field(default=84, ge=16)
    """Height and width of a frame in pixels."""
    max_pool: bool = True
    picture: PictureName = "screen"
    """What a frame shows of the game."""
    noop_max: int = Field(default=30, ge=0)
    fire_reset: bool = True
    sticky_actions: float = Field(default=0.0, ge=0.0, lt=1.0)
    full_action_space: bool = False
    max_frames_per_episode: int = Field(default=108_000, ge=1)

    @model_validator(mode="after")
    def _skips_in_order(self) -> "AtariConfig":
        if self.frame_skip_max is not None and self.frame_skip_max < self.frame_skip:
            raise ValueError(
                f"frame_skip_max = {self.frame_skip_max} is below frame_skip = {self.frame_skip}"
            )
        return self

    @property
    def is_plain(self) -> bool:
        """Whether ale-py's vector environment can play it."""
        return self.picture == "screen" and self.frame_skip_max is None

    def observation(self) -> ObservationSpec:
        """Return what a policy sees."""
        return ObservationSpec(
            shape=(self.frame_stack, self.frame_size, self.frame_size), dtype="uint8", scale=1 / 255
        )


class AtariView(StrictModel):
    """What one policy sees of the games, in the place of what `[env]` says of these keys."""

    frame_stack: int | None = Field(default=None, ge=1)
    frame_size: int | None = Field(default=None, ge=16)
    max_pool: bool | None = None
    picture: PictureName | None = None

    def of(self, config: AtariConfig) -> AtariConfig:
        """Return the environment as that policy sees it."""
        return config.model_copy(update=self.model_dump(exclude_none=True))


class AtariEnvironment(VectorEnvironment):
    """N copies of a game."""

    def __init__(self, config: AtariConfig, *, num_envs: int, num_threads: int) -> None:
        check_rom(config)
        self._env = vector_env(
            config,
            num_envs,
            num_threads=num_threads,
            img_height=config.frame_size,
            img_width=config.frame_size,
            stack_num=config.frame_stack,
            maxpool=config.max_pool,
        )
        self.num_envs = num_envs
        meanings = tuple(action.name for action in self._env.ale.get_action_set())
        self.spec = EnvironmentSpec(
            observation=config.observation(),
            num_actions=len(meanings),
            action_meanings=meanings,
            frame_stack=config.frame_stack,
        )

    def reset(self, seed: int) -> Observations:
        """Reset all games; copy i gets seed + i."""
        observations: Observations = self._env.reset(seed=seed)[0]
        return observations

    def step(self, actions: npt.NDArray[np.int64]) -> StepResult:
        """Take actions [N]."""
        observations, rewards, terminated, truncated, _ = self._env.step(actions)
        return StepResult(observations, rewards.astype(np.float32), terminated, truncated)

    def close(self) -> None:
        """Drop the games; their threads end with them."""
        del self._env


def vector_env(config: AtariConfig, num_envs: int, **pictures: Any) -> Any:
    """Return ale-py's vector environment for the games of a recipe.

    Args:
        config: the games.
        num_envs: how many.
        pictures: what is shown of them, which changes nothing about how they go.
    """
    return AtariVectorEnv(
        config.id,
        num_envs,
        max_num_frames_per_episode=config.max_frames_per_episode,
        repeat_action_probability=config.sticky_actions,
        full_action_space=config.full_action_space,
        frameskip=config.frame_skip,
        noop_max=config.noop_max,
        use_fire_reset=config.fire_reset,
        episodic_life=False,
        reward_clipping=False,
        **pictures,
    )


def check_rom(config: AtariConfig) -> None:
    """Refuse a game that ale-py does not have.

    Raises:
        ConfigError: there is no such ROM.
    """
    if config.id not in roms.get_all_rom_ids():
        raise ConfigError(
            f"env.id = {config.id!r}: ale-py has no such ROM; use its snake case name, for "
            f"example pong or space_invaders"
        )
