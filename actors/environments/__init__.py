"""Vector environments by family. A new family is one file and one line in each table."""

from collections.abc import Callable
from typing import Annotated

from pydantic import Field

from actors.environments.atari import AtariConfig, AtariEnvironment
from actors.environments.atari_games import AtariGames
from actors.environments.base import EnvironmentSpec, StepResult, VectorEnvironment
from actors.environments.gymnasium_env import GymnasiumConfig, GymnasiumEnvironment
from actors.environments.rendered import (
    RenderedAtari,
    RenderedAtariGames,
    RenderedEnvironment,
    RenderedGymnasium,
)

__all__ = [
    "ENVIRONMENTS",
    "ENV_CONFIGS",
    "RENDERED",
    "EnvConfig",
    "EnvironmentSpec",
    "RenderedEnvironment",
    "StepResult",
    "VectorEnvironment",
    "make_environment",
    "make_rendered",
]

EnvConfig = Annotated[AtariConfig | GymnasiumConfig, Field(discriminator="family")]

ENV_CONFIGS: dict[str, type[AtariConfig | GymnasiumConfig]] = {
    "atari": AtariConfig,
    "gymnasium": GymnasiumConfig,
}

ENVIRONMENTS: dict[str, Callable[..., VectorEnvironment]] = {
    "atari": AtariEnvironment,
    "gymnasium": GymnasiumEnvironment,
}

RENDERED: dict[str, Callable[..., RenderedEnvironment]] = {
    "atari": RenderedAtari,
    "gymnasium": RenderedGymnasium,
}


def make_environment(
    config: AtariConfig | GymnasiumConfig,
    *,
    num_envs: int,
    num_threads: int = 1,
    teacher_view: AtariConfig | None = None,
) -> VectorEnvironment:
    """Make `num_envs` copies of the environment.

    Args:
        config: the environment.
        num_envs: N.
        num_threads: that step the copies, where the family has such.
        teacher_view: the same games as the teacher sees them, where it sees something else.

    Raises:
        ConfigError: there is no such environment.
        MismatchError: its observations or actions are of a kind that is not supported.
    """
    if isinstance(config, AtariConfig) and _needs_own_emulators(config, teacher_view):
        return AtariGames(config, num_envs=num_envs, teacher_view=teacher_view)
    return ENVIRONMENTS[config.family](config, num_envs=num_envs, num_threads=num_threads)


def make_rendered(
    config: AtariConfig | GymnasiumConfig,
    *,
    num_envs: int,
    teacher_view: AtariConfig | None = None,
) -> RenderedEnvironment:
    """Make copies that play as those of `make_environment` do, and have pictures.

    Raises:
        ConfigError: there is no such environment, or it has no pictures.
        MismatchError: its observations or actions are of a kind that is not supported.
    """
    if isinstance(config, AtariConfig) and _needs_own_emulators(config, teacher_view):
        return RenderedAtariGames(config, num_envs=num_envs, teacher_view=teacher_view)
    return RENDERED[config.family](config, num_envs=num_envs)


def _needs_own_emulators(config: AtariConfig, teacher_view: AtariConfig | None) -> bool:
    return teacher_view is not None or not config.is_plain
