"""Vector environments by family. A new family is one file and one line in each table."""

from collections.abc import Callable
from typing import Annotated

from pydantic import Field

from actors.environments.atari import AtariConfig, AtariEnvironment
from actors.environments.atari_games import AtariGames
from actors.environments.base import EnvironmentSpec, StepResult, VectorEnvironment
from actors.environments.gymnasium_env import GymnasiumConfig, GymnasiumEnvironment

__all__ = [
    "ENVIRONMENTS",
    "EnvConfig",
    "EnvironmentSpec",
    "StepResult",
    "VectorEnvironment",
    "make_environment",
]

EnvConfig = Annotated[AtariConfig | GymnasiumConfig, Field(discriminator="family")]

ENVIRONMENTS: dict[str, Callable[..., VectorEnvironment]] = {
    "atari": AtariEnvironment,
    "gymnasium": GymnasiumEnvironment,
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
    if isinstance(config, AtariConfig) and not (teacher_view is None and config.is_plain):
        return AtariGames(config, num_envs=num_envs, teacher_view=teacher_view)
    return ENVIRONMENTS[config.family](config, num_envs=num_envs, num_threads=num_threads)
