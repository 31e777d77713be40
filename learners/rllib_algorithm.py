"""RLlib's DQN and PPO (new API stack) as `[teach]` describes them.

They sample and learn inside the calling process: a local env runner, a local learner, no actors.
"""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import gymnasium
import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.algorithms.dqn.dqn import DQN
from ray.rllib.algorithms.ppo.ppo import PPO
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from common.policies.policy import Policy
from common.policies.spec import PolicySpec
from learners.rl_module_copy import policy_from_rl_module
from learners.rllib_frames import NETWORK, SCALE, FrameDQNCatalog, FramePPOCatalog
from learners.rllib_quiet import quiet_rllib
from learners.rllib_replay import NStepEpisodeReplayBuffer
from learners.taught_environment import EpisodeReturns, MakeCopies, TaughtEnvironment
from learners.teach_config import DqnConfig, PpoConfig, TeachConfig

_DQN_ITERATION_ENV_STEPS = 256
"""Env steps of an iteration of DQN, so that progress shows and stopping acts about every second."""

_REGISTERED = "rllib-single-agent-env-v0"
"""By what name RLlib registers an environment that it makes of a class."""

_CATALOGS = {"dqn": FrameDQNCatalog, "ppo": FramePPOCatalog}

# RLlib annotates its algorithms and modules only in part, hence `Any` for both below.


@contextmanager
def running_algorithm(
    config: TeachConfig, spec: PolicySpec, make_copies: MakeCopies, *, seed: int
) -> Iterator[Any]:
    """Build RLlib's algorithm; stop it afterwards and undo what it did to the process.

    Args:
        config: the recipe's `[teach]`.
        spec: of the teacher.
        make_copies: makes the environment.
        seed: of the weights, the exploration and the environments.
    """
    deterministic = torch.are_deterministic_algorithms_enabled()
    with quiet_rllib():
        algorithm: Any = algorithm_config(config, spec, make_copies, seed).build_algo()
    try:
        yield algorithm
    finally:
        with quiet_rllib():
            algorithm.stop()
        gymnasium.registry.pop(_REGISTERED, None)
        torch.use_deterministic_algorithms(deterministic)  # RLlib turns it on with a seed
        with suppress(OSError):
            Path(algorithm.logdir).rmdir()  # empty, as nothing is logged there


def learner_of(algorithm: Any) -> Any:
    """Return the algorithm's learner, which is in this process."""
    (result,) = algorithm.learner_group.foreach_learner(lambda learner: learner)
    return result.get()


def policy_from_algorithm(algorithm: Any, spec: PolicySpec, *, seed: int = 0) -> Policy:
    """Copy the weights of an algorithm's learner into a policy of our own.

    Raises:
        FloatingPointError, RuntimeError: see `policy_from_rl_module`.
    """
    module = learner_of(algorithm).module[DEFAULT_MODULE_ID].unwrapped()
    return policy_from_rl_module(module, spec, seed=seed)


def episode_returns(algorithm: Any) -> EpisodeReturns:
    """Return what the algorithm's env runner has played."""
    returns: EpisodeReturns = algorithm.env_runner.env.unwrapped.returns
    return returns


def algorithm_config(
    config: TeachConfig, spec: PolicySpec, make_copies: MakeCopies, seed: int
) -> AlgorithmConfig:
    """Return RLlib's configuration; arguments as for `running_algorithm`."""
    settings: DqnConfig | PpoConfig
    if config.algorithm == "dqn":
        settings, algorithm = config.dqn, _dqn_config(config.dqn, seed)
    else:
        settings, algorithm = config.ppo, _ppo_config(config.ppo)
    environment = {
        "spec": spec,
        "make_copies": make_copies,
        "clip_rewards": config.clip_rewards,
    }
    algorithm.environment(TaughtEnvironment, env_config=environment)
    algorithm.framework("torch")
    algorithm.training(lr=config.learning_rate, gamma=config.gamma, grad_clip=settings.grad_clip)
    algorithm.training(train_batch_size_per_learner=settings.batch_size)
    algorithm.env_runners(
        num_env_runners=0,
        num_envs_per_env_runner=config.num_envs_per_runner,
        gym_env_vectorize_mode=gymnasium.VectorizeMode.VECTOR_ENTRY_POINT,
    )
    algorithm.learners(num_learners=0)
    _set_module(algorithm, config, spec)
    algorithm.debugging(seed=seed)
    return algorithm


def _set_module(algorithm: AlgorithmConfig, config: TeachConfig, spec: PolicySpec) -> None:
    model = DefaultModelConfig(
        fcnet_hiddens=list(config.hidden),
        fcnet_activation=config.activation,
        head_fcnet_hiddens=[],
        vf_share_layers=config.ppo.share_value_layers,
    )
    if len(spec.observation.shape) != 3:
        algorithm.rl_module(model_config=model)
        return
    frames = {NETWORK: config.network, SCALE: spec.observation.scale}
    algorithm.rl_module(
        model_config=dataclasses.asdict(model) | frames,
        rl_module_spec=RLModuleSpec(catalog_class=_CATALOGS[config.algorithm]),
    )


def _dqn_config(config: DqnConfig, seed: int) -> AlgorithmConfig:
    replay = NStepEpisodeReplayBuffer
    algorithm = DQN.get_default_config().training(
        training_intensity=config.training_intensity,
        num_steps_sampled_before_learning_starts=config.learning_starts,
        replay_buffer_config={
            "type": f"{replay.__module__}.{replay.__name__}",
            "capacity": config.replay_capacity,
            "seed": seed,
        },
        target_network_update_freq=config.target_update_interval,
        double_q=config.double_q,
        dueling=False,  # so that Q = head(trunk), which is what our networks compute
        n_step=config.n_step,
        epsilon=[
            (0, config.epsilon_initial),
            (config.epsilon_decay_env_steps, config.epsilon_final),
        ],
    )
    algorithm.env_runners(rollout_fragment_length=config.rollout_fragment_length)
    return algorithm.reporting(min_sample_timesteps_per_iteration=_DQN_ITERATION_ENV_STEPS)


def _ppo_config(config: PpoConfig) -> AlgorithmConfig:
    return PPO.get_default_config().training(
        minibatch_size=config.minibatch_size,
        num_epochs=config.num_epochs,
        clip_param=config.clip,
        lambda_=config.gae_lambda,
        use_kl_loss=False,
        entropy_coeff=config.entropy_coefficient,
        vf_loss_coeff=config.value_coefficient,
        vf_clip_param=config.value_clip,
    )
