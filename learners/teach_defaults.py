"""What `[teach]` means on Atari where it says nothing: the settings of the literature.

Those of DQN are Mnih et al. 2015 as Stable-Baselines3's zoo and CleanRL have them, with a replay
that fits into a small machine; those of PPO are Schulman et al. 2017, section 6, with a constant
learning rate. Both train on 10 million agent steps, which are 40 million frames.
"""

from collections.abc import Mapping
from typing import Any

_ATARI: Mapping[str, Any] = {
    "total_env_steps": 10_000_000,
    "max_duration_s": 7 * 86_400.0,
    "clip_rewards": True,
    "evaluation_interval": 100_000,
    "evaluation_episodes": 10,
    "checkpoint_interval_s": 300.0,
}
_BY_ALGORITHM: Mapping[str, Mapping[str, Any]] = {
    "dqn": {
        "learning_rate": 1e-4,
        "dqn": {
            "batch_size": 32,
            "training_intensity": 8.0,  # an update of 32 every 4 env steps
            "rollout_fragment_length": 4,
            "learning_starts": 20_000,
            "replay_capacity": 100_000,
            "target_update_interval": 1_000,
            "n_step": 1,
            "epsilon_final": 0.01,
            "epsilon_decay_env_steps": 1_000_000,
        },
    },
    "ppo": {
        "learning_rate": 2.5e-4,
        "ppo": {
            "batch_size": 1_024,  # 128 steps of each of 8 copies
            "minibatch_size": 256,
            "num_epochs": 4,
            "clip": 0.1,
            "entropy_coefficient": 0.01,
            "share_value_layers": True,
        },
    },
}


def with_atari_defaults(teach: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tree of a `[teach]` table with what holds on Atari where it says nothing.

    Args:
        teach: as it was given; what is wrong in it is left for `TeachConfig` to tell.
    """
    algorithm = str(teach.get("algorithm", "dqn"))
    own = _BY_ALGORITHM.get(algorithm, {})
    filled = {**_ATARI, **own, **teach}
    table = teach.get(algorithm, {})
    if own and isinstance(table, Mapping):
        filled[algorithm] = {**own[algorithm], **table}
    return filled
