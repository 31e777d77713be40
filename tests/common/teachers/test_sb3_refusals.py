from pathlib import Path
from typing import Any

import pytest
import torch

from common.networks import MLPSpec
from common.teachers import load_teacher
from tests.common.teachers.sb3_files import (
    State,
    actor_critic,
    cnn_actor_critic,
    layers,
    q_network,
    refusal,
    write,
)


@pytest.mark.parametrize(
    "config",
    [
        "normalize: true\n",
        "- - - normalize\n    - true\n",
        "normalize:\n  norm_obs: true\n",
    ],
)
def test_normalised_observations_without_statistics_are_refused(
    tmp_path: Path, config: str
) -> None:
    path = write(tmp_path, q_network())
    (tmp_path / "config.yml").write_text(config)
    assert "its statistics are missing; put vecnormalize.pkl beside it" in refusal(path)


@pytest.mark.parametrize(
    "config",
    [
        "normalize: false\n",
        "normalize_advantage: true\n",
        "normalize: \"{'norm_obs': False, 'norm_reward': True}\"\n",
        "- - - normalize\n    - dict(norm_obs=False, norm_reward=True)\n",
    ],
)
def test_normalised_rewards_are_not(tmp_path: Path, config: str) -> None:
    path = write(tmp_path, q_network())
    (tmp_path / "config.yml").write_text(config)
    assert load_teacher(path).spec.num_actions == 3


def space(name: str, shape: list[int]) -> dict[str, Any]:
    return {":type:": f"<class 'gymnasium.spaces.{name.lower()}.{name}'>", "_shape": shape}


@pytest.mark.parametrize(
    ("state", "changes", "complaint"),
    [
        (actor_critic() | {"log_std": torch.zeros(3)}, {}, "bounds of its actions are not und"),
        (layers(0, quantile_net__quantile_net__0=(3, 5)), {}, "without hidden layers"),
        (layers(0, quantile_net__quantile_net__0=(7, 5)), {}, "no quantiles of 3 actions"),
        (
            layers(0, quantile_net__quantile_net__0=(6, 5)),
            {"action_space": {}},
            "no quantiles of None actions",
        ),
        (layers(0, quantile_net__x=(3, 5)), {}, "tensor q_net.q_net.0.bias is missing"),
        (layers(0, lstm_actor__x=(3, 5)), {}, "recurrent teachers are not supported yet"),
        (layers(0, encoder__0=(3, 5)), {}, "unknown algorithm (tensor encoder.0.weight)"),
        (actor_critic() | layers(0, encoder__0=(3, 5)), {}, "encoder.0.bias is not understood"),
        (layers(0, action_net=(3, 5), value_net=(1, 5)), {}, "without hidden layers"),
        (layers(0, q_net__q_net__0=(3, 5)), {}, "without hidden layers"),
        (layers(0, q_net__x=(3, 5)), {}, "tensor q_net.q_net.0.bias is missing"),
        (layers(0, action_net=(3, 5)), {}, "tensor value_net.bias is missing"),
        (layers(0, q_net__q_net__0=(4, 5), q_net__q_net__2=(1, 4)), {}, "num_actions"),
        (layers(0, q_net__q_net__0=(4, 5), q_net__q_net__2=(3, 9)), {}, "tensor head.weight has"),
        (
            cnn_actor_critic() | layers(0, mlp_extractor__policy_net__0=(16, 16)),
            {},
            "CnnPolicy with layers after the features",
        ),
        (
            cnn_actor_critic() | {"vf_features_extractor.linear.0.bias": torch.zeros(16)},
            {},
            "convolutions of their own",
        ),
        (
            cnn_actor_critic(),
            {"observation_space": space("Box", [4, 96, 96])},
            "tensor fc.weight has shape",
        ),
        (q_network(), {"observation_space": space("Box", [5, 1])}, "observations of shape (5, 1)"),
        (q_network(), {"observation_space": space("Dict", [])}, "Dict observations"),
        (q_network(), {"action_space": space("MultiDiscrete", [3])}, "MultiDiscrete actions"),
        (
            q_network(),
            {"policy_kwargs": {"activation_fn": "<class 'torch.nn.modules.activation.GELU'>"}},
            "activation GELU is not supported",
        ),
        (
            q_network(),
            {"policy_kwargs": {"activation_fn": "<function relu at 0x7f>"}},
            "activation '<function relu at 0x7f>' is not supported",
        ),
        (
            q_network(),
            {"policy_kwargs": {"features_extractor_class": "<class 'mine.Fourier'>"}},
            "features extractor Fourier is not supported",
        ),
    ],
)
def test_what_is_not_understood_is_refused(
    tmp_path: Path, state: State, changes: dict[str, Any], complaint: str
) -> None:
    assert complaint in refusal(write(tmp_path, state, **changes))


@pytest.mark.parametrize("data", [None, [], {}, {"policy_kwargs": 3, "observation_space": "?"}])
def test_attributes_that_say_nothing_leave_the_defaults(tmp_path: Path, data: object) -> None:
    network = load_teacher(write(tmp_path, q_network(), data=data)).spec.network
    assert network == MLPSpec(hidden=(7, 6), activation="relu")


def test_weights_that_are_no_numbers(tmp_path: Path) -> None:
    state = actor_critic()
    state["action_net.bias"][1] = float("nan")
    assert "tensor head.bias holds NaN or infinity" in refusal(write(tmp_path, state))
