from pathlib import Path
from typing import Any

import pytest

from actors.environments.gymnasium_env import GymnasiumConfig
from cluster.recipe.config import load_recipe
from common.errors import ConfigError
from tests.cluster.recipe.test_config import config_with, round_trip
from tests.datasets import write_dataset


def test_a_dataset_takes_the_place_of_teacher_and_environment(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", 2)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'name = "offline"\ntotal_env_steps = 100\n[dataset]\npath = "data"\n'
        '[student.network]\nname = "mlp"\n[objective.kl]\n'
    )
    config = load_recipe(recipe, [])
    assert config.dataset is not None
    assert config.dataset.path == str(tmp_path / "data")
    assert config.env == GymnasiumConfig(id="toy/task")
    assert (config.actors.unroll_length, config.actors.num_envs_per_runner) == (8, 3)
    own = load_recipe(recipe, ["env={family='gymnasium', id='Own-v0'}", "env.kwargs={x=1}"])
    assert own.env == GymnasiumConfig(id="Own-v0", kwargs={"x": 1})
    changed = load_recipe(recipe, ["env.vectorization=async"])
    assert changed.env == GymnasiumConfig(id="toy/task", vectorization="async")
    assert round_trip(config, tmp_path / "run") == config


@pytest.mark.parametrize(
    ("objective", "complaint"),
    [
        ({"kickstart": {}}, "objective.kickstart: learns from the student's own fresh actions"),
        (
            {"kl": {"weight": {"start": 1.0, "end": 0.0, "by": "share_of_teacher"}}},
            "goes by share_of_teacher, .* with a .dataset. there are none",
        ),
    ],
)
def test_what_needs_a_student_that_plays_does_not_go_with_a_dataset(
    objective: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        config_with(teacher=None, dataset={"path": "data"}, objective=objective)
