from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, Space

from common.errors import ConfigError, MismatchError
from common.networks.mlp import MLPSpec
from common.policies.policy import Policy, new_policy
from learners.teach_config import PpoConfig, TeachConfig
from learners.teacher_search import TeacherSearch, teacher_spec

CARTPOLE: dict[str, Any] = {"env_id": "CartPole-v1", "env_kwargs": {}, "name": "teacher"}


class Endless(gymnasium.Env[np.ndarray, np.int64]):
    """Pays 1 for action 1 and never ends."""

    def __init__(self, observation_space: Space[Any], action_space: Space[Any]) -> None:
        self.observation_space = observation_space
        self.action_space = action_space

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: np.int64) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), float(action), False, False, {}


FLOATS, TWO = Box(-1, 1, (3,), np.float32), Discrete(2)


@pytest.fixture
def endless() -> Any:
    gymnasium.register("stillhouse/Endless-v0", entry_point=Endless)
    yield "stillhouse/Endless-v0"
    del gymnasium.registry["stillhouse/Endless-v0"]


def test_a_dqn_teacher_has_q_values_and_no_value() -> None:
    spec = teacher_spec(TeachConfig(hidden=(16, 8), activation="tanh"), **CARTPOLE)
    assert spec.network == MLPSpec(hidden=(16, 8), activation="tanh")
    assert (spec.dist, spec.has_value, spec.num_actions) == ("q_values", False, 2)
    assert spec.observation.shape == (4,)
    assert spec.environment == {"family": "gymnasium", "id": "CartPole-v1", "kwargs": {}}


@pytest.mark.parametrize("share", [False, True])
def test_a_ppo_teacher_has_logits_and_a_value(share: bool) -> None:
    config = TeachConfig(algorithm="ppo", hidden=(16,), ppo=PpoConfig(share_value_layers=share))
    spec = teacher_spec(config, **CARTPOLE)
    assert spec.network == MLPSpec(hidden=(16,), value_hidden=None if share else (16,))
    assert (spec.dist, spec.has_value) == ("logits", True)


@pytest.mark.parametrize(
    ("observations", "actions", "message"),
    [
        (Discrete(5), TWO, "matrices of floats only"),
        (Box(0, 1, (8, 8, 3), np.float32), TWO, "matrices of floats only"),
        (Box(0, 255, (3,), np.uint8), TWO, "floats only"),
        (FLOATS, Box(-1, 1, (1,), np.float32), "Discrete actions"),
        (FLOATS, Discrete(2, start=1), "Discrete actions"),
        (FLOATS, Discrete(1), "Discrete actions"),
    ],
)
def test_unsuitable_spaces_are_refused_in_one_line(
    endless: str, observations: Space[Any], actions: Space[Any], message: str
) -> None:
    kwargs = {"observation_space": observations, "action_space": actions}
    with pytest.raises(MismatchError, match=message) as error:
        teacher_spec(TeachConfig(), env_id=endless, env_kwargs=kwargs, name="teacher")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("env_id", "env_kwargs"), [("NoSuchGame-v1", {}), ("CartPole-v1", {"no_such": 1})]
)
def test_an_environment_that_cannot_be_made_is_refused(
    env_id: str, env_kwargs: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match="cannot make it"):
        teacher_spec(TeachConfig(), env_id=env_id, env_kwargs=env_kwargs, name="teacher")


def test_an_endless_episode_is_cut(endless: str) -> None:
    config = TeachConfig(hidden=(4,), evaluation_episodes=3, evaluation_max_steps=7)
    kwargs = {"observation_space": FLOATS, "action_space": TWO}
    spec = teacher_spec(config, env_id=endless, env_kwargs=kwargs, name="teacher")
    policy = new_policy(spec, seed=0)
    with torch.no_grad():
        policy.network.head.bias.copy_(torch.tensor([-100.0, 100.0]))
    assert TeacherSearch(config, spec).evaluate(policy) == 7.0


def test_only_the_first_episode_of_each_copy_counts() -> None:
    config = TeachConfig(hidden=(4,), evaluation_episodes=5)
    spec = teacher_spec(config, **CARTPOLE)
    policy = new_policy(spec, seed=0)
    with torch.no_grad():
        policy.network.head.bias.copy_(torch.tensor([-100.0, 100.0]))
    # Pushing to the right only drops the pole within eight to eleven steps.
    assert 8 <= TeacherSearch(config, spec).evaluate(policy) <= 11


class Scripted(TeacherSearch):
    """A search whose evaluations are given."""

    def __init__(self, stop_return: float | None, scores: list[float]) -> None:
        config = TeachConfig(stop_return=stop_return)
        super().__init__(config, teacher_spec(config, **CARTPOLE))
        self.scores = scores

    def evaluate(self, policy: Policy) -> float:
        return self.scores.pop(0)


def test_the_best_candidate_is_kept_and_the_later_of_equals() -> None:
    search = Scripted(None, [1.0, 3.0, 3.0, 2.0])
    spec = teacher_spec(TeachConfig(hidden=(4,)), **CARTPOLE)
    candidates = [new_policy(spec, seed=seed) for seed in range(4)]
    assert [search.consider(candidate) for candidate in candidates] == [False] * 4
    assert search.best is candidates[2]
    assert search.best_return == 3.0


def test_the_return_to_stop_at_must_be_reached_twice() -> None:
    spec = teacher_spec(TeachConfig(hidden=(4,)), **CARTPOLE)
    search = Scripted(10.0, [12.0, 4.0, 11.0, 13.0])
    first, second = new_policy(spec, seed=0), new_policy(spec, seed=1)
    assert not search.consider(first)
    assert search.best_return == 8.0
    assert search.consider(second)
    assert (search.best, search.best_return) == (second, 12.0)
