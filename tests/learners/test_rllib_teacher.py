from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.errors import MismatchError, RunFailedError
from common.policies.policy import load_policy, save_policy
from learners.teach_config import DqnConfig, PpoConfig, TeachConfig
from learners.teacher_search import teacher_spec

CARTPOLE: dict[str, Any] = {"env_id": "CartPole-v1", "env_kwargs": {}, "name": "teacher"}

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
TINY_SHARED_PPO = TINY_PPO.model_copy(
    update={"ppo": TINY_PPO.ppo.model_copy(update={"share_value_layers": True})}
)

RANDOM_RETURN = 22.0
"""Mean return of uniformly random actions in CartPole-v1."""


def train(config: TeachConfig, **changes: Any) -> Any:
    # RLlib takes seconds to import, which tests that are deselected should not cost.
    from learners.rllib_teacher import train_teacher

    arguments = {"on_progress": lambda progress: None, "should_stop": lambda: False}
    return train_teacher(config, **(CARTPOLE | arguments | changes))


@pytest.mark.parametrize("env_id", ["FrozenLake-v1", "Pendulum-v1"])
def test_unsuitable_environments_are_refused(env_id: str) -> None:
    with pytest.raises(MismatchError, match=env_id):
        train(TINY_DQN, env_id=env_id)


@pytest.mark.parametrize("end", ["terminated", "truncated", "running"])
def test_n_step_transitions_end_where_their_episode_ends(end: str) -> None:
    from ray.rllib.env.single_agent_episode import SingleAgentEpisode

    from learners.rllib_teacher import NStepEpisodeReplayBuffer

    length, n_step, gamma = 6, 3, 0.9
    episode = SingleAgentEpisode(
        observations=[np.float32([t]) for t in range(length + 1)],
        actions=[t % 2 for t in range(length)],
        rewards=[10.0**t for t in range(length)],
        terminated=end == "terminated",
        truncated=end == "truncated",
        len_lookback_buffer=0,
    )
    replay = NStepEpisodeReplayBuffer(100, seed=0)
    replay.add(episode.to_numpy())
    seen = set()
    for transition in replay.sample(200, n_step=n_step, gamma=gamma, beta=None):
        t = int(transition.get_observations(0)[0])
        stop = min(t + n_step, length)
        seen.add(t)
        assert len(transition) == 1
        assert transition.get_observations(-1)[0] == stop
        assert transition.get_actions(0) == t % 2
        expected = sum(gamma ** (k - t) * 10.0**k for k in range(t, stop))
        assert transition.get_rewards(0) == pytest.approx(expected)
        assert transition.get_extra_model_outputs("n_step", 0) == stop - t
        assert transition.is_terminated == (end == "terminated" and stop == length)
        assert transition.is_truncated == (end == "truncated" and stop == length)
    assert seen == set(range(length))


@pytest.mark.ray
@pytest.mark.usefixtures("ray_of_this_process")
@pytest.mark.parametrize("config", [TINY_DQN, TINY_PPO, TINY_SHARED_PPO])
def test_the_copy_of_a_trained_rl_module_is_exact(config: TeachConfig) -> None:
    from learners.rllib_teacher import policy_from_algorithm, running_algorithm

    spec = teacher_spec(config, **CARTPOLE)
    observations = torch.randn(100, 4)
    with running_algorithm(config, spec) as algorithm:
        before = policy_from_algorithm(algorithm, spec)
        algorithm.train()
        policy = policy_from_algorithm(algorithm, spec)
        (result,) = algorithm.learner_group.foreach_learner(
            lambda learner: learner.module["default_policy"].unwrapped()
        )
        module = result.get()
        with torch.no_grad():
            if config.algorithm == "dqn":
                expected = module.compute_q_values({"obs": observations})["qf_preds"]
                value = None
            else:
                expected = module.forward_inference({"obs": observations})["action_dist_inputs"]
                value = module.compute_values({"obs": observations})
    output = policy.network(observations)
    torch.testing.assert_close(output.dist_inputs, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(output.value, value, rtol=0, atol=1e-6)
    # The learner's weights were copied, and they have moved.
    assert not torch.equal(before.network(observations).dist_inputs, output.dist_inputs)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_of_this_process")
def test_the_teacher_tells_where_it_comes_from(tmp_path: Path) -> None:
    seen: list[Any] = []
    found: list[Any] = []
    policy = train(TINY_DQN, on_progress=seen.append, on_evaluation=found.append)
    assert policy.spec.measured["episodes"] == 2
    assert policy.spec.measured["mean_return"] > 0
    assert policy.spec.provenance["algorithm"] == "dqn"
    assert policy.spec.provenance["env_steps"] == seen[-1].env_steps >= 300
    assert [p.env_steps for p in seen] == sorted({p.env_steps for p in seen})
    assert seen[-1].episodes > 0
    assert seen[-1].best_return > 0
    assert found[-1].env_steps == seen[-1].env_steps
    best = [evaluation.greedy_return for evaluation in found if evaluation.is_best]
    assert best == sorted(set(best))
    assert best[-1] == max(evaluation.greedy_return for evaluation in found)
    assert found[0].is_best
    save_policy(policy, tmp_path / "teacher.safetensors")
    again = load_policy(tmp_path / "teacher.safetensors")
    assert again.spec == policy.spec


@pytest.mark.ray
@pytest.mark.usefixtures("ray_of_this_process")
def test_training_that_is_told_to_stop_still_gives_a_teacher() -> None:
    seen: list[Any] = []
    policy = train(
        TINY_DQN.model_copy(update={"total_env_steps": 10**9}),
        on_progress=seen.append,
        should_stop=lambda: True,
    )
    assert len(seen) == 1
    assert policy.spec.provenance["env_steps"] == seen[0].env_steps


@pytest.mark.ray
@pytest.mark.usefixtures("ray_of_this_process")
def test_the_process_is_left_as_it_was() -> None:
    train(TINY_PPO)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.ray
@pytest.mark.usefixtures("ray_of_this_process")
@pytest.mark.parametrize("config", [TINY_DQN, TINY_PPO])
def test_diverging_training_fails_in_one_line(config: TeachConfig) -> None:
    hot = config.model_copy(update={"learning_rate": 1e30, "activation": "relu"})
    with pytest.raises(RunFailedError, match=r"diverged .* lower teach\.learning_rate"):
        train(hot)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_of_this_process")
def test_dqn_learns_cartpole() -> None:
    config = TeachConfig(
        hidden=(128, 128), total_env_steps=10_000, stop_return=150.0, evaluation_interval=1_024
    )
    assert train(config).spec.measured["mean_return"] > 4 * RANDOM_RETURN
