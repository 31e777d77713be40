"""Teachers to train: tiny settings, and the service's environments that they are trained in."""

from typing import Any

from pydantic import TypeAdapter

from actors.environments import EnvConfig, make_environment
from common.policies.spec import PolicySpec
from learners.taught_environment import MakeCopies
from learners.teach_config import DqnConfig, PpoConfig, TeachConfig
from learners.teacher_search import teacher_spec

CARTPOLE: dict[str, Any] = {"family": "gymnasium", "id": "CartPole-v1"}
PONG: dict[str, Any] = {"family": "atari", "id": "pong", "max_frames_per_episode": 400}
"""A hundred agent steps a game."""

TINY_DQN = TeachConfig(
    hidden=(16, 8),
    total_env_steps=300,
    evaluation_episodes=2,
    dqn=DqnConfig(batch_size=16, learning_starts=50, training_intensity=1.0),
)
TINY_PPO = TeachConfig(
    algorithm="ppo",
    hidden=(16, 8),
    activation="tanh",
    total_env_steps=128,
    evaluation_episodes=2,
    ppo=PpoConfig(batch_size=128, minibatch_size=64, num_epochs=1),
)


def copies_of(env: dict[str, Any]) -> MakeCopies:
    """Return what makes copies of an environment."""
    config: Any = TypeAdapter(EnvConfig).validate_python(env)
    return lambda num_envs: make_environment(config, num_envs=num_envs)


def taught(config: TeachConfig, env: dict[str, Any] = CARTPOLE) -> tuple[PolicySpec, MakeCopies]:
    """Return what a teacher in this environment is, and what makes the environment."""
    make_copies = copies_of(env)
    copies: Any = make_copies(1)
    copies.close()
    spec = teacher_spec(
        config,
        observation=copies.spec.observation,
        num_actions=copies.spec.num_actions,
        action_meanings=copies.spec.action_meanings,
        environment=env,
        name="teacher",
    )
    return spec, make_copies
