from pathlib import Path
from typing import Any

import pytest
import torch

from common.errors import ConfigError, RunFailedError
from common.policies.policy import load_policy, save_policy
from common.storage import locate
from learners.teach_checkpoint import newest_training
from learners.teach_config import TeachConfig
from tests.taught import TINY_DQN, TINY_PPO, taught

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_of_this_process")]

TINY_SHARED_PPO = TINY_PPO.model_copy(
    update={"ppo": TINY_PPO.ppo.model_copy(update={"share_value_layers": True})}
)

RANDOM_RETURN = 22.0
"""Mean return of uniformly random actions in CartPole-v1."""


def train(
    config: TeachConfig, *, checkpoints: Any = None, resumed: Any = None, **hooks: Any
) -> Any:
    # RLlib takes seconds to import, which tests that are deselected should not cost.
    from learners.rllib_teacher import TeachHooks, train_teacher

    spec, make_copies = taught(config)
    return train_teacher(
        config,
        spec,
        make_copies,
        hooks=TeachHooks(**hooks),
        checkpoints=checkpoints,
        resumed=resumed,
    )


@pytest.mark.parametrize("config", [TINY_DQN, TINY_PPO, TINY_SHARED_PPO])
def test_the_copy_of_a_trained_rl_module_is_exact(config: TeachConfig) -> None:
    from learners.rllib_algorithm import learner_of, policy_from_algorithm, running_algorithm

    spec, make_copies = taught(config)
    observations = torch.randn(100, 4)
    with running_algorithm(config, spec, make_copies, seed=0) as algorithm:
        before = policy_from_algorithm(algorithm, spec)
        algorithm.train()
        policy = policy_from_algorithm(algorithm, spec)
        module = learner_of(algorithm).module["default_policy"].unwrapped()
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
    assert found[-1].greedy_return == seen[-1].greedy_return
    best = [evaluation.greedy_return for evaluation in found if evaluation.is_best]
    assert best == sorted(set(best))
    assert best[-1] == max(evaluation.greedy_return for evaluation in found)
    assert found[0].is_best
    save_policy(policy, tmp_path / "teacher.safetensors")
    again = load_policy(tmp_path / "teacher.safetensors")
    assert again.spec == policy.spec


def test_training_that_is_told_to_stop_still_gives_a_teacher() -> None:
    seen: list[Any] = []
    policy = train(
        TINY_DQN.model_copy(update={"total_env_steps": 10**9}),
        on_progress=seen.append,
        should_stop=lambda: True,
    )
    assert len(seen) == 1
    assert policy.spec.provenance["env_steps"] == seen[0].env_steps


@pytest.mark.parametrize("limit", [{"total_env_steps": 300}, {"max_duration_s": 1e-3}])
def test_a_training_that_ends_below_its_goal_says_so(
    limit: dict[str, float], caplog: pytest.LogCaptureFixture
) -> None:
    goal = {"total_env_steps": 10**9, "stop_return": 501.0}
    train(TINY_DQN.model_copy(update=goal | limit))
    (line,) = (record.getMessage() for record in caplog.records if "ended by" in record.msg)
    ((key, value),) = limit.items()
    assert f"teach.{key} = {value}" in line
    assert "below teach.stop_return = 501.0" in line


def test_the_process_is_left_as_it_was() -> None:
    train(TINY_PPO)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("config", [TINY_DQN, TINY_PPO])
def test_diverging_training_fails_in_one_line(config: TeachConfig, tmp_path: Path) -> None:
    hot = {"learning_rate": 1e30, "activation": "relu", "checkpoint_interval_s": 1e-9}
    checkpoints = locate(tmp_path)
    with pytest.raises(RunFailedError, match=r"diverged .* lower teach\.learning_rate"):
        train(config.model_copy(update=hot), checkpoints=checkpoints)
    found = newest_training(checkpoints)  # of before it diverged, if that took more than once
    assert found is None or all(
        bool(torch.isfinite(tensor).all()) for tensor in found.state["algorithm"]["module"].values()
    )


def test_a_checkpoint_restores_networks_optimiser_counters_and_replay(tmp_path: Path) -> None:
    from learners.rllib_algorithm import learner_of, running_algorithm
    from learners.rllib_state import algorithm_state, restore_algorithm

    train(TINY_DQN, checkpoints=locate(tmp_path))
    saved = newest_training(locate(tmp_path))
    assert saved is not None
    spec, make_copies = taught(TINY_DQN)
    with running_algorithm(TINY_DQN, spec, make_copies, seed=5) as algorithm:
        restore_algorithm(algorithm, saved.state["algorithm"])
        algorithm.local_replay_buffer.read(saved.replay.open())
        assert len(algorithm.local_replay_buffer) == saved.env_steps
        assert "local_replay_buffer" not in algorithm.get_state()  # or ours need not be written
        again = algorithm_state(algorithm, saved.env_steps)
        assert again is not None
        former = saved.state["algorithm"]
        torch.testing.assert_close(again["module"], former["module"], rtol=0, atol=0)
        for name, optimizer in again["optimizers"].items():
            moments = former["optimizers"][name]["state"]
            assert moments[0]["step"] > 0
            torch.testing.assert_close(optimizer["state"], moments, rtol=0, atol=0)
        for key in ("env_steps", "target_updated", "counters"):
            assert again[key] == former[key]
        assert former["target_updated"] > 0
        assert any(name.startswith("_target_") for name in again["module"])
        # The env runner acts with the learner's weights, and explores by the env steps so far.
        runner = algorithm.env_runner
        acting, learning = (
            module.state_dict()["af.net.mlp.0.weight"]
            for module in (runner.module, learner_of(algorithm).module["default_policy"])
        )
        torch.testing.assert_close(acting, learning, rtol=0, atol=0)
        assert runner.num_env_steps_sampled_lifetime == saved.env_steps
        sampled = algorithm.train()["env_runners"]["num_env_steps_sampled_lifetime"]
        assert 256 <= sampled - saved.env_steps < 2 * 256


def test_a_training_that_is_over_is_not_trained_again(tmp_path: Path) -> None:
    checkpoints = locate(tmp_path)
    config = TINY_PPO.model_copy(update={"stop_return": 1.0})
    policy = train(config, checkpoints=checkpoints)
    seen: list[Any] = []
    longer = config.model_copy(update={"total_env_steps": 10_000})
    again = train(
        longer,
        checkpoints=checkpoints,
        resumed=newest_training(checkpoints),
        on_progress=seen.append,
    )
    assert not seen
    for name, tensor in policy.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], tensor)


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    checkpoints = locate(tmp_path)
    train(TINY_PPO, checkpoints=checkpoints)
    wider = TINY_PPO.model_copy(update={"hidden": (32,)})
    with pytest.raises(ConfigError, match="train in a new folder") as caught:
        train(wider, checkpoints=checkpoints, resumed=newest_training(checkpoints))
    assert "network" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_dqn_learns_cartpole() -> None:
    config = TeachConfig(
        hidden=(128, 128), total_env_steps=10_000, stop_return=150.0, evaluation_interval=1_024
    )
    assert train(config).spec.measured["mean_return"] > 4 * RANDOM_RETURN
