"""Recipes with a teacher of random weights, and what `prepare` makes of them."""

from pathlib import Path
from typing import Any

from cluster.prepare import Preparation, prepare
from cluster.recipe.config import RunConfig
from common.policies.policy import save_policy
from tests.builders import make_policy
from tests.cartpole import load_config

BOX = {"low": (-2.0,), "high": (2.0,)}
BIGGER = {"network": {"name": "mlp", "hidden": (64,)}, "num_actions": 2}
"""A teacher that is larger than the recipe's student."""


def prepared(config: RunConfig, *, num_cpus: float = 2.0, num_gpus: float = 0.0) -> Preparation:
    return prepare(config, num_cpus=num_cpus, num_gpus=num_gpus)


def config_for(folder: Path, *overrides: str, **teacher: Any) -> RunConfig:
    """Return CartPole's recipe with a teacher of random weights, described by `teacher`."""
    config = load_config(folder, *overrides)
    spec = BIGGER | {"observation": {"shape": (4,), "dtype": "float32"}} | teacher
    save_policy(make_policy(**spec), folder / "teacher.safetensors")
    return config
