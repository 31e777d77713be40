"""Vector environments by family. A new family is one file and one line in each table."""

from collections.abc import Callable
from typing import Annotated

from pydantic import Field

from actors.environments.atari import AtariConfig, AtariEnvironment
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
    config: AtariConfig | GymnasiumConfig, *, num_envs: int, num_threads: int = 1
) -> VectorEnvironment:
    """Make `num_envs` copies of the environment.

    Raises:
        ConfigError: there is no such environment.
        MismatchError: its observations or actions are of a kind that is not supported.
    """
    return ENVIRONMENTS[config.family](config, num_envs=num_envs, num_threads=num_threads)
