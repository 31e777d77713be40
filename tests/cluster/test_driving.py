"""The driving recipe, where highway-env is installed."""

from pathlib import Path

import numpy as np
import pytest

from actors.environments import make_environment
from cluster.prepare import prepare
from cluster.recipe.config import load_recipe

pytest.importorskip("highway_env", reason='needs pip install "stillhouse[driving]"')

RECIPE = Path(__file__).resolve().parents[2] / "deploy" / "recipes" / "driving.toml"


def test_the_driving_recipe_prepares() -> None:
    preparation = prepare(load_recipe(RECIPE, []), num_cpus=2.0, num_gpus=0.0)
    assert preparation.environment.observation.shape == (25,)
    assert preparation.environment.num_actions == 5
    assert preparation.warnings == ()


def test_the_cars_of_the_recipe_drive() -> None:
    """A row tells whether a vehicle is there, where it is and how fast; the first is the driver."""
    env = make_environment(load_recipe(RECIPE, []).env, num_envs=2)
    rows = env.reset(0).reshape(2, 5, 5)
    assert rows.dtype == np.float32
    assert (rows[:, 0, 0] == 1).all()
    driving = env.step(np.full(2, 1))
    assert driving.observations.shape == (2, 25)
    assert (driving.rewards > 0).all()
    env.close()
