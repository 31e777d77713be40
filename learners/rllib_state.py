"""What a checkpoint holds of an RLlib algorithm in training: tensors and numbers, nothing pickled.

RLlib's own checkpoints are pickles, which run code when they are read, and lack a DQN's replay.
What a training needs to go on is less than they hold: the module's weights (the target network's
among them), the optimiser's, and the counters that schedules go by. Env runners start new episodes.
"""

from collections.abc import Mapping
from typing import Any

import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME

from learners.rllib_algorithm import learner_of

_LIFETIME = "lifetime_sum"
"""RLlib's name for counters that only grow."""


def algorithm_state(algorithm: Any, env_steps: int) -> dict[str, Any] | None:
    """Return the state of an algorithm between two iterations; None where weights are not finite.

    Args:
        algorithm: of `learners.rllib_algorithm`.
        env_steps: that it has sampled.
    """
    learner = learner_of(algorithm)
    module = learner.module[DEFAULT_MODULE_ID].unwrapped().state_dict()
    if not all(bool(torch.isfinite(tensor).all()) for tensor in module.values()):
        return None
    counters = {
        name: {key: _plain(value) for key, value in counter.items()}
        for name, counter in algorithm.metrics.get_state()["stats"].items()
        if counter["stats_cls_identifier"] == _LIFETIME
    }
    return {
        "env_steps": env_steps,
        "module": module,
        "optimizers": {
            name: optimizer.state_dict()
            for name, optimizer in learner.get_optimizers_for_module(DEFAULT_MODULE_ID)
        },
        "target_updated": _target_updated(learner).get(DEFAULT_MODULE_ID, 0),
        "counters": counters,
    }


def restore_algorithm(algorithm: Any, state: Mapping[str, Any]) -> None:
    """Let a fresh algorithm of the same settings go on from a state."""
    learner = learner_of(algorithm)
    learner.module[DEFAULT_MODULE_ID].unwrapped().load_state_dict(state["module"])
    for name, optimizer in learner.get_optimizers_for_module(DEFAULT_MODULE_ID):
        # The recipe's learning rate holds, which may be another one now.
        rates = [group["lr"] for group in optimizer.param_groups]
        optimizer.load_state_dict(state["optimizers"][name])
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
    _target_updated(learner)[DEFAULT_MODULE_ID] = state["target_updated"]
    algorithm.metrics.set_state({"stats": state["counters"]})
    runners = algorithm.env_runner_group
    runners.sync_weights(from_worker_or_learner_group=algorithm.learner_group, inference_only=True)
    algorithm.env_runner.set_state({NUM_ENV_STEPS_SAMPLED_LIFETIME: state["env_steps"]})


def _target_updated(learner: Any) -> dict[str, Any]:
    """Return when a DQN last renewed its target network, by module; of PPO an empty dict."""
    updated: dict[str, Any] = getattr(learner, "last_update_ts_by_mid", {})
    return updated


def _plain(value: Any) -> Any:
    """Return a number of NumPy's as Python's."""
    return value.item() if hasattr(value, "item") else value
