"""Real observations of a policy, for exports that are calibrated on them and compared on them."""

import itertools

from pydantic import TypeAdapter, ValidationError

from actors.environments import EnvConfig, make_environment
from actors.evaluator import evaluate
from cluster.run_directory import open_run_directory
from common.errors import ConfigError
from common.policies.inference import InferencePolicy, Observations
from common.policies.policy import Policy
from common.storage import Location

NUM_OBSERVATIONS = 4_000

_COPIES = 4
_MOST_STEPS = 2_000
"""Of each copy: the first quarter of an hour of an Atari game."""
_ENVIRONMENT: TypeAdapter[EnvConfig] = TypeAdapter(EnvConfig)


def played_observations(policy: Policy, source: Location, task: str | None) -> Observations:
    """Let a policy play some episodes, and return a sample of what it sees, [M, *shape].

    Args:
        policy: acts as its specification says.
        source: its run directory, whose recipe tells the environment, or its file, where the
            specification does.
        task: of a run of several.

    Raises:
        ConfigError: nobody tells the environment, or it cannot be made.
    """
    env = make_environment(environment_of(policy, source, task), num_envs=_COPIES)
    steps = itertools.count()
    try:
        return evaluate(
            env,
            InferencePolicy(policy),
            acting=policy.spec.acting,
            num_episodes=_COPIES,
            seed=0,
            num_observations=NUM_OBSERVATIONS,
            should_stop=lambda: next(steps) >= _MOST_STEPS,
        ).observations
    finally:
        env.close()


def environment_of(policy: Policy, source: Location, task: str | None) -> EnvConfig:
    """Return the environment in which a policy plays; for the arguments see `played_observations`.

    Raises:
        ConfigError: nobody tells.
    """
    if source.is_dir():
        _, config = open_run_directory(source, [])
        own = [part.env for part in config.of_tasks() if part.task_name == task]
        return own[0] if own else config.env
    try:
        return _ENVIRONMENT.validate_python(policy.spec.environment)
    except ValidationError:
        raise ConfigError(
            f"{source}: does not tell the environment in which the policy plays, on whose "
            f"observations it is calibrated; give its run directory"
        ) from None
