from typing import Any

import pytest

from common.config import validate
from common.errors import ConfigError
from learners.teach_config import TeachConfig


def test_a_recipe_may_say_almost_nothing() -> None:
    config = validate(TeachConfig, {"stop_return": 475.0, "dqn": {"n_step": 2}}, "teach")
    assert config.algorithm == "dqn"
    assert config.dqn.n_step == 2


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"algorithm": "sac"}, "algorithm = 'sac'"),
        ({"hidden": []}, "hidden"),
        ({"learning_rat": 1}, "did you mean learning_rate"),
        ({"ppo": {"clip": 0.1}}, "table ppo has no effect with algorithm = 'dqn'"),
        ({"algorithm": "ppo", "dqn": {}}, "table dqn has no effect"),
        ({"dqn": {"n_step": 9, "rollout_fragment_length": 4}}, "shorter than n_step = 9"),
        (
            {"algorithm": "ppo", "ppo": {"batch_size": 64, "minibatch_size": 128}},
            "larger than batch_size = 64",
        ),
    ],
)
def test_mistakes_are_told(tree: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(TeachConfig, tree, "teach")
