from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

from common.errors import MismatchError
from common.networks.mlp import MLPSpec
from common.networks.nature_cnn import NatureCNNSpec
from common.policies.policy import Policy, new_policy
from common.policies.spec import ObservationSpec
from learners.teach_config import PpoConfig, TeachConfig
from learners.teacher_search import TeacherSearch, teacher_spec
from tests.taught import CARTPOLE, PONG, copies_of, taught


class Endless(gymnasium.Env[np.ndarray, np.int64]):
    """Pays 1 for action 1 and never ends."""

    observation_space = Box(-1, 1, (3,), np.float32)
    action_space = Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: np.int64) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), float(action), False, False, {}


@pytest.fixture
def endless() -> Any:
    gymnasium.register("stillhouse/Endless-v0", entry_point=Endless)
    yield {"family": "gymnasium", "id": "stillhouse/Endless-v0"}
    del gymnasium.registry["stillhouse/Endless-v0"]


def test_a_dqn_teacher_has_q_values_and_no_value() -> None:
    spec, _ = taught(TeachConfig(hidden=(16, 8), activation="tanh"))
    assert spec.network == MLPSpec(hidden=(16, 8), activation="tanh")
    assert (spec.dist, spec.has_value, spec.num_actions) == ("q_values", False, 2)
    assert spec.observation.shape == (4,)
    assert spec.environment == CARTPOLE


@pytest.mark.parametrize("share", [False, True])
def test_a_ppo_teacher_has_logits_and_a_value(share: bool) -> None:
    config = TeachConfig(algorithm="ppo", hidden=(16,), ppo=PpoConfig(share_value_layers=share))
    spec, _ = taught(config)
    assert spec.network == MLPSpec(hidden=(16,), value_hidden=None if share else (16,))
    assert (spec.dist, spec.has_value) == ("logits", True)


def test_a_teacher_of_a_game_sees_its_frames_and_knows_its_buttons() -> None:
    spec, _ = taught(TeachConfig(), PONG)
    assert spec.network == NatureCNNSpec()
    assert spec.observation == ObservationSpec(shape=(4, 84, 84), dtype="uint8", scale=1 / 255)
    assert spec.action_meanings is not None
    assert spec.action_meanings[:2] == ("NOOP", "FIRE")


def test_policy_and_value_on_frames_share_their_layers() -> None:
    with pytest.raises(MismatchError, match=r"share_value_layers = false: on frames"):
        taught(TeachConfig(algorithm="ppo"), PONG)


@pytest.mark.parametrize(("env_id", "given"), [("Pendulum-v1", None), ("OneAction-v0", 1)])
def test_unsuitable_actions_are_refused_in_one_line(env_id: str, given: int | None) -> None:
    with pytest.raises(MismatchError, match="Discrete actions only") as error:
        teacher_spec(
            TeachConfig(),
            observation=ObservationSpec(shape=(3,), dtype="float32"),
            num_actions=given,
            environment={"id": env_id},
            name="teacher",
        )
    assert env_id in str(error.value)
    assert "\n" not in str(error.value)


def test_an_endless_episode_is_cut(endless: dict[str, Any]) -> None:
    config = TeachConfig(hidden=(4,), evaluation_episodes=3, evaluation_max_steps=7)
    spec, make_copies = taught(config, endless)
    policy = new_policy(spec, seed=0)
    with torch.no_grad():
        policy.network.head.bias.copy_(torch.tensor([-100.0, 100.0]))
    assert TeacherSearch(config, make_copies).evaluate(policy) == 7.0


def test_only_the_first_episode_of_each_copy_counts() -> None:
    config = TeachConfig(hidden=(4,), evaluation_episodes=5)
    spec, make_copies = taught(config)
    policy = new_policy(spec, seed=0)
    with torch.no_grad():
        policy.network.head.bias.copy_(torch.tensor([-100.0, 100.0]))
    # Pushing to the right only drops the pole within eight to eleven steps.
    assert 8 <= TeacherSearch(config, make_copies).evaluate(policy) <= 11


class Scripted(TeacherSearch):
    """A search whose evaluations are given."""

    def __init__(self, stop_return: float | None, scores: list[float]) -> None:
        super().__init__(TeachConfig(stop_return=stop_return), copies_of(CARTPOLE))
        self.scores = scores

    def evaluate(self, policy: Policy) -> float:
        return self.scores.pop(0)


def test_the_best_candidate_is_kept_and_the_later_of_equals() -> None:
    search = Scripted(None, [1.0, 3.0, 3.0, 2.0])
    spec, _ = taught(TeachConfig(hidden=(4,)))
    candidates = [new_policy(spec, seed=seed) for seed in range(4)]
    assert [search.consider(candidate) for candidate in candidates] == [False] * 4
    assert search.best is candidates[2]
    assert search.best_return == 3.0


def test_the_return_to_stop_at_must_be_reached_twice() -> None:
    spec, _ = taught(TeachConfig(hidden=(4,)))
    search = Scripted(10.0, [12.0, 4.0, 11.0, 13.0])
    first, second = new_policy(spec, seed=0), new_policy(spec, seed=1)
    assert not search.consider(first)
    assert search.best_return == 8.0
    assert search.consider(second)
    assert (search.best, search.best_return) == (second, 12.0)


def test_a_search_goes_on_from_its_state() -> None:
    spec, make_copies = taught(TeachConfig(hidden=(4,), evaluation_episodes=1))
    search, again = (
        TeacherSearch(TeachConfig(evaluation_episodes=1), make_copies) for _ in range(2)
    )
    again.restore(search.state(), spec)  # before the first evaluation
    assert again.best is None
    search.consider(new_policy(spec, seed=0))
    again.restore(search.state(), spec)
    assert again.best is not None
    assert again.best_return == search.best_return
    assert torch.equal(again.best.network.head.weight, search.best.network.head.weight)
    other = new_policy(spec, seed=1)
    assert again.evaluate(other) == search.evaluate(other)  # on the same seeds, which are new
