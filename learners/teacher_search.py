"""What a teacher will be, and which of the weights seen in training are the best.

The half of teacher training that knows no RLlib: the environment is checked and turned into a
`PolicySpec`, and candidates are evaluated greedily, on seeds that no evaluation shares.
"""

import math
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete

from common.errors import ConfigError, MismatchError
from common.networks.mlp import MLPSpec
from common.policies.policy import Policy
from common.policies.spec import ObservationSpec, PolicySpec
from common.vector_observations import with_vectors
from learners.teach_config import TeachConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class TeachProgress:
    """Where the training of a teacher stands after an iteration."""

    env_steps: int
    """Env steps sampled so far, evaluations not counted."""
    mean_return: float
    """Mean return of recent training episodes, exploration included; NaN before one has ended."""
    episodes: int
    """Training episodes that have ended so far."""
    elapsed_s: float
    """Seconds since training began."""
    best_return: float
    """Mean greedy return of the best evaluation so far; NaN before the first."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TeachEvaluation:
    """A greedy evaluation in the training of a teacher."""

    policy: Policy
    """The weights that played."""
    env_steps: int
    """Env steps sampled by then."""
    mean_return: float
    """Mean return of recent training episodes; NaN before one has ended."""
    greedy_return: float
    """Mean return of the evaluation."""
    is_best: bool
    """Whether it is better than all before."""


def teacher_spec(
    config: TeachConfig, *, env_id: str, env_kwargs: dict[str, Any], name: str
) -> PolicySpec:
    """Return the specification of the teacher that `config` asks for in this environment.

    Raises:
        ConfigError: the environment cannot be made.
        MismatchError: its observations are no floats in vectors or matrices, or its actions are not
            Discrete.
    """
    try:
        with closing(with_vectors(gymnasium.make(env_id, **env_kwargs))) as env:
            observation, action = env.observation_space, env.action_space
    except (gymnasium.error.Error, ImportError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"env.id = {env_id!r}: cannot make it ({reason})") from None
    if not isinstance(observation, Box) or len(observation.shape) != 1:
        raise MismatchError(
            f"env.id = {env_id!r}: its observations are {observation}; teachers are trained on "
            f"vectors and matrices of floats only"
        )
    if not np.issubdtype(np.dtype(observation.dtype), np.floating):
        raise MismatchError(
            f"env.id = {env_id!r}: its observations are {observation.dtype}; teachers are trained "
            f"on floats only"
        )
    if not isinstance(action, Discrete) or action.start != 0 or int(action.n) < 2:
        raise MismatchError(
            f"env.id = {env_id!r}: its actions are {action}; teachers are trained on two or more "
            f"Discrete actions from 0 only"
        )
    actor_critic = config.algorithm == "ppo"
    separate = actor_critic and not config.ppo.share_value_layers
    return PolicySpec(
        name=name,
        network=MLPSpec(
            hidden=config.hidden,
            activation=config.activation,
            value_hidden=config.hidden if separate else None,
        ),
        observation=ObservationSpec(shape=observation.shape, dtype="float32"),
        num_actions=int(action.n),
        dist="logits" if actor_critic else "q_values",
        has_value=actor_critic,
        environment={"family": "gymnasium", "id": env_id, "kwargs": env_kwargs},
    )


class TeacherSearch:
    """Keeps the best of the candidates, by mean greedy return."""

    def __init__(self, config: TeachConfig, spec: PolicySpec) -> None:
        self._config = config
        self._environment = spec.environment
        self._evaluations = 0
        self.best: Policy | None = None
        self.best_return = math.nan
        self.latest_return = math.nan
        """Of the candidate considered last."""

    def consider(self, candidate: Policy) -> bool:
        """Evaluate `candidate`; return whether it reaches `stop_return`, twice."""
        goal = self._config.stop_return
        score = self.evaluate(candidate)
        reached = False
        if goal is not None and score >= goal:
            again = self.evaluate(candidate)  # training doesn't end on one lucky set of episodes
            reached = again >= goal
            score = (score + again) / 2
        self.latest_return = score
        if self.best is None or score >= self.best_return:
            self.best, self.best_return = candidate, score
        return reached

    @torch.inference_mode()
    def evaluate(self, policy: Policy) -> float:
        """Return the mean return of greedy episodes on seeds that were not used before."""
        self._evaluations += 1
        seeds = np.random.SeedSequence([self._config.seed, self._evaluations])
        count = self._config.evaluation_episodes
        returns, running = np.zeros(count), np.ones(count, dtype=bool)
        with closing(
            gymnasium.make_vec(
                self._environment["id"],
                num_envs=count,
                vectorization_mode="sync",
                wrappers=[with_vectors],
                **self._environment["kwargs"],
            )
        ) as envs:
            observations, _ = envs.reset(seed=int(seeds.generate_state(1)[0]))
            for _ in range(self._config.evaluation_max_steps):
                output = policy.network(torch.as_tensor(observations, dtype=torch.float32))
                actions = output.dist_inputs.argmax(-1).numpy()
                observations, rewards, terminated, truncated, _ = envs.step(actions)
                returns += rewards * running  # only the first episode of each copy counts
                running &= ~(terminated | truncated)
                if not running.any():
                    break
        return float(returns.mean())
