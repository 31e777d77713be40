"""Atari games on ale-py's own vector environment (stack, max-pool, skip and resize in C++).

Two of its defaults are changed here: rewards are never clipped, and no life counts as an episode,
so that returns are raw and over full games.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt
from ale_py import roms
from ale_py.vector_env import AtariVectorEnv
from pydantic import Field

from actors.environments.base import (
    EnvironmentSpec,
    Observations,
    StepResult,
    VectorEnvironment,
)
from common.config import StrictModel
from common.errors import ConfigError
from common.policies.spec import ObservationSpec


class AtariConfig(StrictModel):
    """The recipe's `[env]` with `family = "atari"`."""

    family: Literal["atari"] = "atari"
    id: str
    """ROM name in snake case: pong, breakout, space_invaders."""
    frame_skip: int = Field(default=4, ge=1)
    frame_stack: int = Field(default=4, ge=1)
    frame_size: int = Field(default=84, ge=16)
    """Height and width of a frame in pixels."""
    max_pool: bool = True
    noop_max: int = Field(default=30, ge=0)
    fire_reset: bool = True
    sticky_actions: float = Field(default=0.0, ge=0.0, lt=1.0)
    full_action_space: bool = False
    max_frames_per_episode: int = Field(default=108_000, ge=1)


class AtariEnvironment(VectorEnvironment):
    """N copies of a game."""

    def __init__(self, config: AtariConfig, *, num_envs: int, num_threads: int) -> None:
        if config.id not in roms.get_all_rom_ids():
            raise ConfigError(
                f"env.id = {config.id!r}: ale-py has no such ROM; use its snake case name, for "
                f"example pong or space_invaders"
            )
        self._env = AtariVectorEnv(
            config.id,
            num_envs,
            num_threads=num_threads,
            max_num_frames_per_episode=config.max_frames_per_episode,
            repeat_action_probability=config.sticky_actions,
            full_action_space=config.full_action_space,
            img_height=config.frame_size,
            img_width=config.frame_size,
            stack_num=config.frame_stack,
            frameskip=config.frame_skip,
            maxpool=config.max_pool,
            noop_max=config.noop_max,
            use_fire_reset=config.fire_reset,
            episodic_life=False,
            reward_clipping=False,
        )
        self.num_envs = num_envs
        meanings = tuple(action.name for action in self._env.ale.get_action_set())
        self.spec = EnvironmentSpec(
            observation=ObservationSpec(
                shape=(config.frame_stack, config.frame_size, config.frame_size),
                dtype="uint8",
                scale=1 / 255,
            ),
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
