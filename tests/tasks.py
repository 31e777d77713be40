"""Two toy tasks for one student: CartPole, and a cart with a heavier pole and a third action."""

from pathlib import Path
from typing import Any

import gymnasium
import torch
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from gymnasium.spaces import Discrete

from cluster.recipe.config import RunConfig, load_recipe
from common.networks.mlp import MLPSpec
from common.policies.policy import Policy, policy_from_state, save_policy
from common.policies.spec import ObservationSpec, PolicySpec
from tests.cartpole import GAINS, RECIPE, save_cartpole_teacher

HEAVY = "tests.tasks:HeavyPole-v0"


class HeavyPole(CartPoleEnv):
    """CartPole with a pole of three times the mass, and the action 2 that does nothing else than
    the action 0: pushes left."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.masspole = 0.3
        self.total_mass = self.masspole + self.masscart
        self.polemass_length = self.masspole * self.length
        self.action_space = Discrete(3)

    def step(self, action: Any) -> Any:
        """Take an action."""
        return super().step(0 if action == 2 else action)


gymnasium.register("HeavyPole-v0", entry_point=HeavyPole, max_episode_steps=500)

TASKS = f"""
[[tasks]]
name = "light"
env = {{ family = "gymnasium", id = "CartPole-v1" }}
teacher = {{ path = "teacher.safetensors" }}

[[tasks]]
name = "heavy"
env = {{ family = "gymnasium", id = "{HEAVY}", trust = true }}
teacher = {{ path = "heavy.safetensors" }}
"""


def heavy_teacher() -> Policy:
    """Push by the sign of the feedback, and say so in Q-values; the action 2 is worst."""
    spec = PolicySpec(
        name="heavy-feedback",
        network=MLPSpec(hidden=(2,)),
        observation=ObservationSpec(shape=(4,), dtype="float32"),
        num_actions=3,
        dist="q_values",
        environment={"family": "gymnasium", "id": HEAVY},
    )
    state = {
        "layers.0.weight": torch.stack([GAINS, -GAINS]),
        "layers.0.bias": torch.zeros(2),
        "head.weight": torch.tensor([[-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]]),
        "head.bias": torch.tensor([0.0, 0.0, -1.0]),
    }
    return policy_from_state(spec, state, source="heavy-feedback")


def write_tasks(folder: Path) -> Path:
    """Write both teachers and a recipe of both tasks into a folder; return where the recipe is."""
    save_cartpole_teacher(folder / "teacher.safetensors")
    save_policy(heavy_teacher(), folder / "heavy.safetensors")
    head, rest = RECIPE.split("[env]")
    recipe = folder / "recipe.toml"
    rest = rest[rest.index("[student") :].replace("num_env_runners = 1", "num_env_runners = 2")
    recipe.write_text(head + TASKS + "\n" + rest)
    return recipe


def load_tasks(folder: Path, *overrides: str) -> RunConfig:
    """Write teachers and recipe into a folder and load the recipe."""
    return load_recipe(write_tasks(folder), list(overrides))
