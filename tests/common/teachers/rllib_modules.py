"""Modules as RLlib builds them, and what their own forward passes say."""

from typing import Any

import gymnasium
import torch

from common.policies.policy import Policy

OBSERVATIONS = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
BYTES = torch.randint(256, (20, 2, 20, 24), generator=torch.Generator().manual_seed(0)).float()


def build(
    algorithm: str,
    *,
    observation_space: gymnasium.Space[Any] | None = None,
    inference_only: bool = False,
    **settings: Any,
) -> Any:
    """Return a module as RLlib builds it, by default for CartPole, with fresh weights."""
    from ray.rllib.algorithms.appo import APPOConfig
    from ray.rllib.algorithms.dqn import DQNConfig
    from ray.rllib.algorithms.impala import IMPALAConfig
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

    configs = {"ppo": PPOConfig, "appo": APPOConfig, "impala": IMPALAConfig, "dqn": DQNConfig}
    config = configs[algorithm]()
    if "dueling" in settings:
        config.training(dueling=settings.pop("dueling"))
    if "num_atoms" in settings:
        config.training(num_atoms=settings.pop("num_atoms"), v_min=0.0, v_max=1.0)
    config.environment("CartPole-v1")
    config.rl_module(model_config=DefaultModelConfig(**settings))
    torch.manual_seed(0)
    with gymnasium.make("CartPole-v1") as environment:
        observation_space = observation_space or environment.observation_space
        spec = config.get_rl_module_spec(
            spaces={"default_policy": (observation_space, environment.action_space)},
            inference_only=inference_only,
        )
        spec.observation_space = observation_space
        spec.action_space = environment.action_space
        return spec.build()


def assert_same(policy: Policy, module: Any) -> None:
    sees_frames = len(policy.spec.observation.shape) == 3
    observations = BYTES if sees_frames else OBSERVATIONS
    with torch.no_grad():
        output = policy.network(observations)
        batch = {"obs": observations.permute(0, 2, 3, 1) if sees_frames else observations}
        if policy.spec.dist == "q_values":
            wanted = module.compute_q_values(batch)["qf_preds"]
        else:
            wanted = module.forward_inference(batch)["action_dist_inputs"]
        torch.testing.assert_close(output.dist_inputs, wanted, rtol=1e-4, atol=1e-4)
        if policy.spec.has_value:
            value = module.compute_values(batch)
            torch.testing.assert_close(output.value, value, rtol=1e-4, atol=1e-4)
