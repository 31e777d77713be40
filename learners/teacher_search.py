"""What a teacher will be, and which of the weights seen in training are the best.

The half of teacher training that knows no RLlib: what an environment shows becomes a `PolicySpec`,
and candidates are evaluated greedily, with raw rewards, on seeds that no evaluation shares.
"""

import math
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.errors import MismatchError
from common.networks.mlp import MLPSpec
from common.policies.inference import InferencePolicy
from common.policies.policy import Policy, policy_from_state
from common.policies.spec import ObservationSpec, PolicySpec
from learners.taught_environment import MakeCopies
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
    """Seconds of training, those before it was resumed included."""
    best_return: float
    """Mean greedy return of the best evaluation so far; NaN before the first."""
    greedy_return: float = math.nan
    """Mean return of the greedy evaluation after this iteration; NaN where there was none."""


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
    config: TeachConfig,
    *,
    observation: ObservationSpec,
    num_actions: int | None,
    environment: dict[str, Any],
    name: str,
    action_meanings: tuple[str, ...] | None = None,
) -> PolicySpec:
    """Return the specification of the teacher that `config` asks for in an environment.

    Args:
        config: the recipe's `[teach]`.
        observation: what the environment shows.
        num_actions: of its discrete actions, or None where they are vectors.
        environment: the recipe's `[env]`, for whoever reads the specification.
        name: the teacher's.
        action_meanings: of its actions, where they have names.

    Raises:
        MismatchError: its actions are not discrete, or the settings do not go with frames.
    """
    if num_actions is None or num_actions < 2:
        given = "vectors (a Box)" if num_actions is None else f"{num_actions} alone"
        raise MismatchError(
            f"env.id = {environment.get('id')!r}: its actions are {given}; teachers are trained on "
            f"two or more Discrete actions only"
        )
    actor_critic = config.algorithm == "ppo"
    separate = actor_critic and not config.ppo.share_value_layers
    sees_frames = len(observation.shape) == 3
    if sees_frames and separate:
        raise MismatchError(
            "teach.ppo.share_value_layers = false: on frames, policy and value share their layers; "
            "leave it out"
        )
    return PolicySpec(
        name=name,
        network=config.network
        if sees_frames
        else MLPSpec(
            hidden=config.hidden,
            activation=config.activation,
            value_hidden=config.hidden if separate else None,
        ),
        observation=observation,
        num_actions=num_actions,
        action_meanings=action_meanings,
        dist="logits" if actor_critic else "q_values",
        has_value=actor_critic,
        environment=environment,
    )


class TeacherSearch:
    """Keeps the best of the candidates, by mean greedy return.

    Args:
        config: the recipe's `[teach]`.
        make_copies: makes the environment.
    """

    def __init__(self, config: TeachConfig, make_copies: MakeCopies) -> None:
        self._config = config
        self._make_copies = make_copies
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

    def evaluate(self, policy: Policy) -> float:
        """Return the mean return of greedy episodes on seeds that were not used before."""
        self._evaluations += 1
        seeds = np.random.SeedSequence([self._config.seed, self._evaluations])
        count = self._config.evaluation_episodes
        returns, running = np.zeros(count), np.ones(count, dtype=bool)
        acting = InferencePolicy(policy)
        with closing(self._make_copies(count)) as copies:
            observations = copies.reset(seed=int(seeds.generate_state(1)[0]) % 2**30)
            for _ in range(self._config.evaluation_max_steps):
                actions = acting(observations).dist_inputs.argmax(-1)
                observations, rewards, terminated, truncated = copies.step(actions)
                returns += rewards * running  # only the first episode of each copy counts
                running &= ~(terminated | truncated)
                if not running.any():
                    break
        return float(returns.mean())

    def state(self) -> dict[str, Any]:
        """Return what `restore` takes: tensors and numbers."""
        return {
            "evaluations": self._evaluations,
            "best": None if self.best is None else self.best.network.state_dict(),
            "best_return": self.best_return,
            "latest_return": self.latest_return,
        }

    def restore(self, state: Mapping[str, Any], spec: PolicySpec) -> None:
        """Go on from the state of a search of the same training.

        Args:
            state: of it.
            spec: of its candidates.
        """
        self._evaluations = state["evaluations"]
        if state["best"] is not None:
            self.best = policy_from_state(spec, state["best"], source="checkpoint")
        self.best_return, self.latest_return = state["best_return"], state["latest_return"]
