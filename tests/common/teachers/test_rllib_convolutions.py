"""RLlib's own modules on frames, saved by RLlib, against what its own forward passes say."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from common.errors import PolicyFileError
from common.networks import NatureCNNSpec
from common.policies.spec import ObservationSpec
from common.teachers import load_teacher
from tests.common.teachers.rllib_modules import assert_same, build

PIXELS = gymnasium.spaces.Box(0, 255, (20, 24, 2), np.float32)
CONVOLUTIONS: dict[str, Any] = {
    "conv_filters": [[4, 5, 3, "valid"], [6, [3, 3], [2, 2], "valid"]],
    "head_fcnet_hiddens": [10],
}


@pytest.mark.parametrize(
    ("algorithm", "settings", "hidden"),
    [
        ("ppo", {}, 10),
        ("ppo", {"vf_share_layers": False}, 10),
        ("appo", {}, 10),
        ("dqn", {"dueling": False}, 10),
        ("dqn", {}, 20),
    ],
    ids=["ppo", "ppo towers", "appo", "dqn", "duelling dqn"],
)
def test_a_module_on_frames_says_the_same_with_channels_first(
    tmp_path: Path, algorithm: str, settings: dict[str, Any], hidden: int
) -> None:
    module = build(algorithm, observation_space=PIXELS, **CONVOLUTIONS, **settings)
    module.save_to_path(str(tmp_path / "module"))
    policy = load_teacher(tmp_path / "module")
    assert policy.spec.network == NatureCNNSpec(
        channels=(4, 6), kernels=(5, 3), strides=(3, 2), hidden=hidden
    )
    assert policy.spec.observation == ObservationSpec(shape=(2, 20, 24), dtype="uint8")
    assert not policy.spec.has_value  # its hidden layer is not the policy's
    assert_same(policy, module)


def test_frames_of_other_floats_are_floats(tmp_path: Path) -> None:
    space = gymnasium.spaces.Box(-1, 1, (20, 24, 2), np.float32)
    module = build("ppo", observation_space=space, **CONVOLUTIONS)
    module.save_to_path(str(tmp_path / "module"))
    policy = load_teacher(tmp_path / "module")
    assert policy.spec.observation == ObservationSpec(shape=(2, 20, 24), dtype="float32")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"conv_filters": [[4, 5, 3]]}, "conv_filters = [[4, 5, 3]] is not supported (they pad"),
        ({"conv_filters": [[4, 5, [3, 2], "valid"]]}, "is not supported (they pad"),
        ({"conv_activation": "tanh"}, "conv_activation = tanh is not supported"),
        ({"head_fcnet_activation": "tanh"}, "head_fcnet_activation = tanh is not supported"),
        ({"head_fcnet_hiddens": []}, "0 of head_fcnet_hiddens are not supported"),
        ({"head_fcnet_hiddens": [8, 8]}, "2 of head_fcnet_hiddens are not supported"),
    ],
)
def test_frames_through_other_layers_are_refused(
    tmp_path: Path, changes: dict[str, Any], complaint: str
) -> None:
    module = build("ppo", observation_space=PIXELS, **CONVOLUTIONS | changes)
    module.save_to_path(str(tmp_path / "module"))
    with pytest.raises(PolicyFileError) as caught:
        load_teacher(tmp_path / "module")
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)
