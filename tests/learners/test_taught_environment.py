from typing import Any

import numpy as np
import pytest
import torch

from common.policies.policy import new_policy
from learners.taught_environment import EpisodeReturns, TaughtEnvironment
from learners.teacher_search import TeacherSearch
from tests.matrices import matrices_registered
from tests.taught import PONG, TINY_DQN, taught


def environment(env: dict[str, Any], *, num_envs: int = 1, clips: bool = False) -> Any:
    spec, make_copies = taught(TINY_DQN, env)
    return TaughtEnvironment(
        {"spec": spec, "make_copies": make_copies, "num_envs": num_envs, "clip_rewards": clips}
    )


@pytest.mark.parametrize(("kwargs", "size"), [({}, 6), ({"shape": (3, 4)}, 12)])
def test_what_rllib_makes_is_what_the_teacher_is_specified_for(
    kwargs: dict[str, tuple[int, ...]], size: int
) -> None:
    with matrices_registered() as env_id:
        table = {"family": "gymnasium", "id": env_id, "kwargs": kwargs}
        spec, _ = taught(TINY_DQN, table)
        env = environment(table)
        assert env.single_observation_space.shape == spec.observation.shape == (size,)
        np.testing.assert_array_equal(env.reset(seed=0)[0], [np.arange(size)])
        np.testing.assert_array_equal(env.step(np.array([1]))[0], [np.arange(size) + 10])
        env.close()


def test_frames_are_those_of_env_runners() -> None:
    env = environment(PONG, num_envs=2)
    theirs: Any = taught(TINY_DQN, PONG)[1](2)
    assert env.single_observation_space.dtype == np.uint8
    np.testing.assert_array_equal(env.reset(seed=3)[0], theirs.reset(3))
    for actions in np.random.default_rng(0).integers(6, size=(5, 2)):
        np.testing.assert_array_equal(env.step(actions)[0], theirs.step(actions).observations)
    env.close()
    theirs.close()


class Payments:
    """Two copies that pay what they are asked to, in episodes of two steps."""

    steps = 0

    def reset(self, seed: int) -> Any:
        return np.zeros((2, 4), np.float32)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any]:
        self.steps += 1
        ended = np.full(2, self.steps % 3 == 2)
        rewards = np.float32([5.0, -0.5])
        return self.reset(0), rewards, ended, np.zeros(2, np.bool_)

    def close(self) -> None:
        pass


@pytest.mark.parametrize(("clips", "paid"), [(True, [1.0, -1.0]), (False, [5.0, -0.5])])
def test_rewards_are_clipped_in_training_and_returns_are_raw(
    clips: bool, paid: list[float]
) -> None:
    spec, _ = taught(TINY_DQN)
    env = TaughtEnvironment(
        {"spec": spec, "make_copies": lambda n: Payments(), "num_envs": 2, "clip_rewards": clips}
    )
    env.reset()
    for _ in range(6):  # of which two only reset
        assert env.step([0, 0])[1].tolist() == paid
    assert env.returns.episodes == 4
    assert list(env.returns.recent) == [10.0, -1.0] * 2
    assert env.returns.mean() == 4.5


def test_before_an_episode_has_ended_there_is_no_mean() -> None:
    returns = EpisodeReturns(1)
    returns.add(np.ones(1), np.zeros(1, np.bool_))
    assert np.isnan(returns.mean())


def test_a_teacher_of_matrices_is_evaluated() -> None:
    with matrices_registered() as env_id:
        spec, make_copies = taught(TINY_DQN, {"family": "gymnasium", "id": env_id})
        policy = new_policy(spec, seed=0)
        with torch.no_grad():
            policy.network.head.bias.copy_(torch.tensor([-1e4, 1e4]))
        assert TeacherSearch(TINY_DQN, make_copies).evaluate(policy) == 10.0


@pytest.mark.ray
@pytest.mark.usefixtures("ray_of_this_process")
def test_a_teacher_is_trained_on_matrices() -> None:
    from learners.rllib_teacher import TeachHooks, train_teacher

    with matrices_registered() as env_id:
        table = {"family": "gymnasium", "id": env_id, "kwargs": {"shape": (3, 4)}}
        policy = train_teacher(TINY_DQN, *taught(TINY_DQN, table), hooks=TeachHooks())
    assert policy.spec.observation.shape == (12,)
    assert policy.spec.environment["kwargs"] == {"shape": (3, 4)}
    assert policy.network(torch.zeros(1, 12)).dist_inputs.shape == (1, 2)
