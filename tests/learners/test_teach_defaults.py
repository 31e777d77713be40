from typing import Any

import pytest

from common.config import validate
from common.errors import ConfigError
from learners.teach_config import TeachConfig
from learners.teach_defaults import with_atari_defaults


def filled(tree: dict[str, Any]) -> TeachConfig:
    return validate(TeachConfig, with_atari_defaults(tree), "teach")


@pytest.mark.parametrize("algorithm", ["dqn", "ppo"])
def test_an_atari_teacher_learns_as_the_literature_has_it(algorithm: str) -> None:
    config = filled({"algorithm": algorithm})
    assert config.clip_rewards
    assert config.total_env_steps == 10_000_000
    assert config.learning_rate == {"dqn": 1e-4, "ppo": 2.5e-4}[algorithm]
    if algorithm == "ppo":
        assert (config.ppo.clip, config.ppo.share_value_layers) == (0.1, True)
    else:  # an update of 32 every four env steps
        assert config.dqn.training_intensity * 4 == config.dqn.batch_size == 32
        assert config.dqn.replay_capacity == 100_000


def test_what_a_recipe_says_holds() -> None:
    config = filled({"learning_rate": 1e-3, "clip_rewards": False, "dqn": {"n_step": 3}})
    assert (config.learning_rate, config.clip_rewards, config.dqn.n_step) == (1e-3, False, 3)
    assert config.dqn.batch_size == 32


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"algorithm": "sac"}, "algorithm = 'sac'"),
        ({"algorithm": ["dqn"]}, "algorithm"),
        ({"ppo": {}}, "table ppo has no effect"),
        ({"dqn": 3}, "dqn"),
        ({"network": {"name": "mlp"}}, "network"),
    ],
)
def test_mistakes_are_still_told(tree: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        filled(tree)
