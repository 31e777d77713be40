"""Teachers on frames: they say what RLlib's modules say, and play like any other teacher."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from actors.evaluator import evaluate
from cluster.prepare import prepare
from cluster.recipe.config import load_recipe
from common.policies.inference import InferencePolicy
from common.policies.policy import save_policy
from common.teachers import load_teacher
from learners.teach_config import DqnConfig, PpoConfig, TeachConfig
from tests.taught import PONG, copies_of, taught

SMALL: dict[str, Any] = {"channels": (4, 8, 8), "hidden": 32}
TINY: dict[str, Any] = {
    "network": SMALL | {"name": "nature_cnn"},
    "clip_rewards": True,
    "total_env_steps": 200,
    "num_envs_per_runner": 2,
    "evaluation_episodes": 1,
}
CONFIGS = {
    "dqn": TeachConfig(
        **TINY, dqn=DqnConfig(batch_size=8, learning_starts=64, n_step=1, training_intensity=0.5)
    ),
    "ppo": TeachConfig(
        **TINY,
        algorithm="ppo",
        ppo=PpoConfig(batch_size=100, minibatch_size=50, num_epochs=1, share_value_layers=True),
    ),
}


def said_by(module: Any, algorithm: str, frames: torch.Tensor) -> tuple[Any, Any]:
    with torch.no_grad():
        if algorithm == "dqn":
            return module.compute_q_values({"obs": frames})["qf_preds"], None
        outputs = module.forward_inference({"obs": frames})["action_dist_inputs"]
        return outputs, module.compute_values({"obs": frames})


def frames_of_pong(count: int) -> Any:
    env = copies_of(PONG)(1)
    rng, frames = np.random.default_rng(0), [env.reset(seed=0)]
    while len(frames) < count:
        frames.append(env.step(rng.integers(6, size=1))[0])
    env.close()
    return np.concatenate(frames)


RECIPE = """
name = "pong"
total_env_steps = 1_000
[env]
family = "atari"
id = "pong"
max_frames_per_episode = 400
[teacher]
path = "teacher.safetensors"
[student.network]
name = "nature_cnn"
channels = [4, 4, 4]
hidden = 16
[objective.kl]
"""


@pytest.mark.ray
@pytest.mark.usefixtures("ray_of_this_process")
@pytest.mark.parametrize("algorithm", ["dqn", "ppo"])
def test_a_teacher_of_pong_is_the_module_that_rllib_has_trained(
    algorithm: str, tmp_path: Path
) -> None:
    from learners.rllib_algorithm import learner_of, policy_from_algorithm, running_algorithm

    config = CONFIGS[algorithm]
    spec, make_copies = taught(config, PONG)
    with running_algorithm(config, spec, make_copies, seed=0) as trained:
        first = policy_from_algorithm(trained, spec)
        for _ in range(2):
            trained.train()
        policy = policy_from_algorithm(trained, spec)
        frames = frames_of_pong(60)
        module = learner_of(trained).module["default_policy"].unwrapped()
        expected, value = said_by(module, algorithm, torch.from_numpy(frames))
        if algorithm == "dqn":  # which env runners see what was stored
            transition = trained.local_replay_buffer.sample(1, n_step=1, gamma=1.0)[0]
            assert transition.get_observations(0).shape == spec.observation.shape
    save_policy(policy, tmp_path / "teacher.safetensors")
    teacher = load_teacher(tmp_path / "teacher.safetensors")
    # In the service: bytes enter a network whose first layer has the scale in it.
    acting = InferencePolicy(teacher)
    outputs = acting(frames)
    np.testing.assert_allclose(outputs.dist_inputs, expected.numpy(), rtol=0, atol=1e-4)
    if value is not None:
        np.testing.assert_allclose(outputs.value, value.numpy(), rtol=0, atol=1e-4)
    assert not np.allclose(InferencePolicy(first)(frames).dist_inputs, outputs.dist_inputs)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    preparation = prepare(load_recipe(tmp_path / "recipe.toml", []), num_cpus=2, num_gpus=0)
    assert preparation.teacher is not None
    assert preparation.warnings == ()
    env: Any = make_copies(2)
    result = evaluate(env, acting, acting=teacher.spec.acting, num_episodes=2, seed=0)
    env.close()
    assert result.lengths == (100, 100)
    assert all(-21.0 <= played <= 21.0 for played in result.returns)


@pytest.mark.parametrize("algorithm", ["dqn", "ppo"])
@pytest.mark.parametrize("name", ["nature_cnn", "impala_cnn"])
def test_every_network_on_frames_leaves_an_rl_module_as_it_was(name: str, algorithm: str) -> None:
    from learners.rl_module_copy import policy_from_rl_module
    from learners.rllib_algorithm import algorithm_config
    from learners.taught_environment import TaughtEnvironment

    small = SMALL if name == "nature_cnn" else {"channels": (4, 4), "hidden": 32}
    settings = {"ppo": PpoConfig(share_value_layers=True)} if algorithm == "ppo" else {}
    tree = TINY | {"network": small | {"name": name}, "algorithm": algorithm} | settings
    config = TeachConfig(**tree)
    spec, make_copies = taught(config, PONG)
    env = TaughtEnvironment(
        {"spec": spec, "make_copies": make_copies, "num_envs": 1, "clip_rewards": True}
    )
    spaces = {"default_policy": (env.single_observation_space, env.single_action_space)}
    env.close()
    module = (
        algorithm_config(config, spec, make_copies, 0).get_rl_module_spec(spaces=spaces).build()
    )
    policy = policy_from_rl_module(module, spec)
    frames = torch.randint(256, (5, *spec.observation.shape), dtype=torch.uint8)
    expected, value = said_by(module, algorithm, frames)
    output = policy.network(frames.float(), input_scale=spec.observation.scale)
    torch.testing.assert_close(output.dist_inputs, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(output.value, value, rtol=0, atol=1e-5)
