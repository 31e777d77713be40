"""Train a teacher with RLlib and hand it over as a policy of our own.

RLlib (new API stack) samples and learns inside the calling process: one local env runner, one
local learner, no actors. Every so often the RLModule's weights are copied into our `MLP`, checked
against the RLModule, and given to `TeacherSearch`; the best copy becomes the teacher. This and
`learners.export.rl_module_export` are the only modules outside `cluster` that know Ray.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import ray
import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.algorithms.dqn.dqn import DQN
from ray.rllib.algorithms.ppo.ppo import PPO
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    EPISODE_RETURN_MEAN,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_EPISODES_LIFETIME,
)
from ray.rllib.utils.replay_buffers.episode_replay_buffer import EpisodeReplayBuffer

from common.errors import RunFailedError
from common.policies.policy import Policy
from common.policies.spec import PolicySpec
from learners.rl_module_copy import policy_from_rl_module
from learners.rllib_quiet import quiet_rllib
from learners.taught_environment import TaughtEnvironment
from learners.teach_config import DqnConfig, PpoConfig, TeachConfig
from learners.teacher_search import TeacherSearch, TeachEvaluation, TeachProgress, teacher_spec

__all__ = ["TeachEvaluation", "TeachProgress", "train_teacher"]

_DQN_ITERATION_ENV_STEPS = 256
"""Env steps of an iteration of DQN, so that progress shows and stopping acts about every second."""

_REGISTERED = "rllib-single-agent-env-v0"
"""By what name RLlib registers an environment that it makes of a class."""

_logger = logging.getLogger(__name__)


def train_teacher(
    config: TeachConfig,
    *,
    env_id: str,
    env_kwargs: dict[str, Any],
    name: str,
    on_progress: Callable[[TeachProgress], None],
    should_stop: Callable[[], bool],
    on_evaluation: Callable[[TeachEvaluation], None] = lambda evaluation: None,
) -> Policy:
    """Train a teacher and return its best-evaluated weights.

    The caller has initialised Ray; nothing here starts actors or asks for resources. The
    process's global random generators are seeded.

    Args:
        config: the recipe's `[teach]`.
        env_id: a registered Gymnasium id, or `module:id`.
        env_kwargs: given to the environment's constructor.
        name: the teacher's name in its specification.
        on_progress: called after each iteration (every second or so).
        should_stop: asked after each iteration; True ends training with the best weights so far.
        on_evaluation: called after each greedy evaluation.

    Raises:
        ConfigError: the environment cannot be made.
        MismatchError: its observations are no floats in vectors or matrices, or its actions are not
            Discrete.
        RunFailedError: training diverged before the first evaluation.
    """
    spec = teacher_spec(config, env_id=env_id, env_kwargs=env_kwargs, name=name)
    search = TeacherSearch(config, spec)
    env_steps = _train(config, spec, search, on_progress, should_stop, on_evaluation)
    if search.best is None:
        raise RunFailedError(
            f"teacher training diverged within {env_steps} env steps (weights of NaN or "
            f"infinity); lower teach.learning_rate = {config.learning_rate}"
        )
    # The best of many evaluations is also the luckiest, so what is told is measured afresh.
    measured = {
        "mean_return": search.evaluate(search.best),
        "episodes": config.evaluation_episodes,
        "acting": "greedy",
    }
    provenance = {
        "trainer": "rllib",
        "ray": ray.__version__,
        "algorithm": config.algorithm,
        "seed": config.seed,
        "env_steps": env_steps,
    }
    update = {"measured": measured, "provenance": provenance}
    return Policy(spec.model_copy(update=update), search.best.network)


class NStepEpisodeReplayBuffer(EpisodeReplayBuffer):
    """Uniform replay of n-step transitions that end where their episode ends.

    In RLlib's own, the last n - 1 transitions of an episode forget that it has terminated (in its
    prioritised one they are missing), so that Q-values bootstrap from beyond the end. RLlib's also
    takes twice the time, for it cuts every transition out of its episode as an episode of its own.
    """

    def __init__(self, capacity: int, *, seed: int, **kwargs: Any) -> None:
        super().__init__(capacity, **kwargs)
        self.rng = np.random.default_rng(seed)

    def sample(self, num_items: int | None = None, **options: Any) -> Any:
        """Return `num_items` transitions, each as an episode of one step."""
        picks = self.rng.integers(len(self._indices), size=num_items)
        n_step, gamma = options["n_step"], options["gamma"]
        return [self._transition(self._indices[pick], n_step, gamma) for pick in picks]

    def _transition(self, place: tuple[int, int], n_step: int, gamma: float) -> SingleAgentEpisode:
        index, t = place
        episode = self.episodes[index - self._num_episodes_evicted]
        steps = min(n_step, len(episode) - t)
        ends = t + steps == len(episode)
        rewards = episode.get_rewards(slice(t, t + steps))
        return SingleAgentEpisode(
            id_=episode.id_,
            observations=[episode.get_observations(t), episode.get_observations(t + steps)],
            actions=[episode.get_actions(t)],
            rewards=[sum(gamma**k * reward for k, reward in enumerate(rewards))],
            terminated=ends and episode.is_terminated,
            truncated=ends and episode.is_truncated,
            extra_model_outputs={"n_step": [steps], "weights": [1.0]},
            len_lookback_buffer=0,
        )


# RLlib annotates its algorithms and modules only in part, hence `Any` for both below.


@contextmanager
def running_algorithm(config: TeachConfig, spec: PolicySpec) -> Iterator[Any]:
    """Build RLlib's algorithm; stop it afterwards and undo what it did to the process."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    with quiet_rllib():
        algorithm: Any = _algorithm_config(config, spec).build_algo()
    try:
        yield algorithm
    finally:
        with quiet_rllib():
            algorithm.stop()
        gymnasium.registry.pop(_REGISTERED, None)
        torch.use_deterministic_algorithms(deterministic)  # RLlib turns it on with a seed
        with suppress(OSError):
            Path(algorithm.logdir).rmdir()  # empty, as nothing is logged there


def policy_from_algorithm(algorithm: Any, spec: PolicySpec, *, seed: int = 0) -> Policy:
    """Copy the weights of an algorithm's learner into a policy of our own.

    Raises:
        FloatingPointError, RuntimeError: see `policy_from_rl_module`.
    """
    (result,) = algorithm.learner_group.foreach_learner(
        lambda learner: learner.module[DEFAULT_MODULE_ID].unwrapped()
    )
    return policy_from_rl_module(result.get(), spec, seed=seed)


def _train(
    config: TeachConfig,
    spec: PolicySpec,
    search: TeacherSearch,
    on_progress: Callable[[TeachProgress], None],
    should_stop: Callable[[], bool],
    on_evaluation: Callable[[TeachEvaluation], None],
) -> int:
    """Train and evaluate in turns until one of the ends is reached; return the env steps."""
    started = time.monotonic()
    next_evaluation = config.evaluation_interval
    env_steps, mean_return = 0, math.nan
    finished = False
    with running_algorithm(config, spec) as algorithm:
        while not finished:
            try:
                result = _iterate(algorithm, spec)
                env_steps = int(result[NUM_ENV_STEPS_SAMPLED_LIFETIME])
                latest = float(result.get(EPISODE_RETURN_MEAN, math.nan))
                # No episode may have ended in this iteration.
                mean_return = mean_return if math.isnan(latest) else latest
                finished = (
                    env_steps >= config.total_env_steps
                    or time.monotonic() - started >= config.max_duration_s
                    or should_stop()
                )
                if finished or env_steps >= next_evaluation:
                    next_evaluation = env_steps + config.evaluation_interval
                    candidate = policy_from_algorithm(algorithm, spec, seed=env_steps)
                    former_best = search.best_return
                    finished = search.consider(candidate) or finished
                    evaluation = TeachEvaluation(
                        policy=candidate,
                        env_steps=env_steps,
                        mean_return=mean_return,
                        greedy_return=search.latest_return,
                        is_best=not search.latest_return <= former_best,
                    )
                    on_evaluation(evaluation)
            except FloatingPointError as error:
                _logger.warning("teacher training ends at %d env steps: %s", env_steps, error)
                break
            on_progress(
                TeachProgress(
                    env_steps=env_steps,
                    mean_return=mean_return,
                    episodes=int(result.get(NUM_EPISODES_LIFETIME, 0)),
                    elapsed_s=time.monotonic() - started,
                    best_return=search.best_return,
                )
            )
    return env_steps


def _iterate(algorithm: Any, spec: PolicySpec) -> dict[str, Any]:
    """Run an iteration of RLlib's and return the env runner's results.

    Raises:
        FloatingPointError: it failed because the weights are NaN or infinite.
    """
    try:
        with quiet_rllib():
            results: dict[str, Any] = algorithm.train()[ENV_RUNNER_RESULTS]
            return results
    except (RuntimeError, ValueError):
        policy_from_algorithm(algorithm, spec)  # raises the truer error where NaN is the cause
        raise


def _algorithm_config(config: TeachConfig, spec: PolicySpec) -> AlgorithmConfig:
    settings: DqnConfig | PpoConfig
    if config.algorithm == "dqn":
        settings, algorithm = config.dqn, _dqn_config(config.dqn, config.seed)
    else:
        settings, algorithm = config.ppo, _ppo_config(config.ppo)
    algorithm.environment(TaughtEnvironment, env_config=spec.environment)
    algorithm.framework("torch")
    algorithm.training(lr=config.learning_rate, gamma=config.gamma, grad_clip=settings.grad_clip)
    algorithm.training(train_batch_size_per_learner=settings.batch_size)
    algorithm.env_runners(num_env_runners=0, num_envs_per_env_runner=config.num_envs_per_runner)
    algorithm.learners(num_learners=0)
    algorithm.rl_module(
        model_config=DefaultModelConfig(
            fcnet_hiddens=list(config.hidden),
            fcnet_activation=config.activation,
            head_fcnet_hiddens=[],
            vf_share_layers=config.ppo.share_value_layers,
        )
    )
    algorithm.debugging(seed=config.seed)
    return algorithm


def _dqn_config(config: DqnConfig, seed: int) -> AlgorithmConfig:
    algorithm = DQN.get_default_config().training(
        training_intensity=config.training_intensity,
        num_steps_sampled_before_learning_starts=config.learning_starts,
        replay_buffer_config={
            "type": f"{__name__}.{NStepEpisodeReplayBuffer.__name__}",
            "capacity": config.replay_capacity,
            "seed": seed,
        },
        target_network_update_freq=config.target_update_interval,
        double_q=config.double_q,
        dueling=False,  # so that Q = head(trunk), which is what our MLP computes
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
