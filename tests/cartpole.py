"""A real CartPole teacher without training, and a recipe that distils it in seconds.

The teacher is a linear state feedback (the gains of a linear-quadratic regulator for the cart and
pole), written as a network of two hidden units; it balances the pole for all 500 steps.
"""

from pathlib import Path

import torch

from cluster.recipe.config import RunConfig, load_recipe
from common.networks.mlp import MLPSpec
from common.policies.policy import Policy, policy_from_state, save_policy
from common.policies.spec import DistKind, ObservationSpec, PolicySpec

GAINS = torch.tensor([1.0, 1.7, 18.7, 3.5])

RECIPE = """
name = "balance"
total_env_steps = 12_000

[env]
family = "gymnasium"
id = "CartPole-v1"

[teacher]
path = "teacher.safetensors"

[student.network]
name = "mlp"
hidden = [16]

[objective.kl]

[actors]
num_env_runners = 1
num_envs_per_runner = 8
unroll_length = 32

[replay]
capacity = 10_000
samples_per_insert = 8.0
min_size_to_sample = 512

[learner]
batch_size = 64
learning_rate = 3e-3
publish_interval_steps = 10

[evaluation]
num_episodes = 16
num_observations = 500
video = false
"""


def cartpole_teacher(dist: DistKind = "logits") -> Policy:
    """Push right where the feedback K·s is positive, left where it is negative."""
    spec = PolicySpec(
        name="feedback",
        network=MLPSpec(hidden=(2,)),
        observation=ObservationSpec(shape=(4,), dtype="float32"),
        num_actions=2,
        dist=dist,
        environment={"family": "gymnasium", "id": "CartPole-v1"},
    )
    state = {
        "layers.0.weight": torch.stack([GAINS, -GAINS]),
        "layers.0.bias": torch.zeros(2),
        "head.weight": torch.tensor([[-1.0, 1.0], [1.0, -1.0]]),
        "head.bias": torch.zeros(2),
    }
    return policy_from_state(spec, state, source="feedback")


def save_cartpole_teacher(path: Path) -> None:
    """Write the teacher's two files."""
    save_policy(cartpole_teacher(), path)


def write_recipe(path: Path) -> Path:
    """Write a recipe whose teacher lies beside it."""
    path.write_text(RECIPE, encoding="utf-8")
    return path


def write_run(folder: Path) -> Path:
    """Write a teacher and its recipe into a folder; return where the recipe is."""
    save_cartpole_teacher(folder / "teacher.safetensors")
    return write_recipe(folder / "recipe.toml")


def load_config(folder: Path, *overrides: str) -> RunConfig:
    """Write teacher and recipe into a folder and load the recipe."""
    return load_recipe(write_run(folder), list(overrides))
