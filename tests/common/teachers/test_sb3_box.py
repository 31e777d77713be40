"""Actors for Box actions, against the formulas of Stable-Baselines3's own policies in NumPy."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from actors.environments import make_environment
from actors.environments.gymnasium_env import GymnasiumConfig
from actors.evaluator import evaluate
from common.networks.gsde import GSDESpec
from common.policies.actions import mean_and_log_std
from common.policies.inference import InferencePolicy
from common.policies.spec import ActingSpec
from common.teachers import load_teacher
from tests.common.teachers.sb3_files import State, layers, refusal, write
from tests.common.teachers.test_sb3_format import relu, tower

LOW, HIGH = np.array([-2.0, 0.0]), np.array([2.0, 10.0])
SPACE = {
    ":type:": "<class 'gymnasium.spaces.box.Box'>",
    "_shape": [2],
    "low": "[-2.  0.]",
    "high": "[ 2. 10.]",
}
OBSERVATIONS = np.random.default_rng(0).normal(size=(11, 5)).astype(np.float32)
CRITIC = layers(9, critic__qf0__0=(4, 7), critic__qf1__0=(4, 7), critic_target__qf0__0=(4, 7))
ON_POLICY = ["mlp_extractor.policy_net.0", "mlp_extractor.policy_net.2"]
SAC = ["actor.latent_pi.0", "actor.latent_pi.2"]


def ppo(log_std: torch.Tensor) -> State:
    return {"log_std": log_std} | layers(
        0,
        mlp_extractor__policy_net__0=(7, 5),
        mlp_extractor__policy_net__2=(6, 7),
        mlp_extractor__value_net__0=(9, 5),
        action_net=(2, 6),
        value_net=(1, 9),
    )


def sac(**heads: tuple[int, ...]) -> State:
    return CRITIC | layers(1, actor__latent_pi__0=(7, 5), actor__latent_pi__2=(6, 7), **heads)


def td3() -> State:
    actor = layers(2, actor__mu__0=(7, 5), actor__mu__2=(6, 7), actor__mu__4=(2, 6))
    return CRITIC | actor | {f"actor_target{name[5:]}": w for name, w in actor.items()}


def gsde_std(features: np.ndarray, log_std: torch.Tensor) -> np.ndarray:
    return np.sqrt(features**2 @ np.exp(log_std.double().numpy()) ** 2 + 1e-6)


def linear(state: State, name: str, x: np.ndarray) -> np.ndarray:
    return tower(state, [name], x, lambda y: y)


def loaded(folder: Path, state: State, **changes: Any) -> tuple[Any, np.ndarray, np.ndarray]:
    """Return the specification, and mean and σ of every observation in units."""
    policy = load_teacher(write(folder, state, **({"action_space": SPACE} | changes)))
    outputs = InferencePolicy(policy)(OBSERVATIONS).dist_inputs
    mean, log_std = mean_and_log_std(policy.spec.dist, outputs)
    return policy.spec, mean, np.exp(log_std) if log_std is not None else np.zeros(0)


def test_ppo_has_a_gaussian_of_the_boxs_own_numbers(tmp_path: Path) -> None:
    state = ppo(torch.tensor([-0.5, 0.7]))
    spec, mean, std = loaded(tmp_path, state, clip_range=0.2)
    assert (spec.dist, spec.num_actions, spec.has_value) == ("gaussian", None, True)
    assert (spec.action_box.low, spec.action_box.high) == ((-2.0, 0.0), (2.0, 10.0))
    assert spec.provenance["algorithm"] == "PPO"
    own = linear(state, "action_net", tower(state, ON_POLICY, OBSERVATIONS, np.tanh))
    half = (HIGH - LOW) / 2
    np.testing.assert_allclose(mean * half + (LOW + HIGH) / 2, own, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(std * half, np.tile(np.exp([-0.5, 0.7]), (11, 1)), rtol=1e-5)
    clipped = spec.action_box.from_units(mean)
    np.testing.assert_allclose(clipped, np.clip(own, LOW, HIGH), rtol=1e-4, atol=1e-5)


def test_ppo_with_state_dependent_exploration(tmp_path: Path) -> None:
    log_std = torch.randn(6, 2, generator=torch.Generator().manual_seed(3)) * 0.3
    spec, mean, std = loaded(tmp_path, ppo(log_std), use_sde=True)
    assert spec.network.gsde == GSDESpec(clip_mean=None)
    features = tower(ppo(log_std), ON_POLICY, OBSERVATIONS, np.tanh)
    half = (HIGH - LOW) / 2
    own = linear(ppo(log_std), "action_net", features)
    np.testing.assert_allclose(mean * half + (LOW + HIGH) / 2, own, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(std * half, gsde_std(features, log_std), rtol=1e-3)


def test_one_deviation_for_all_entries_of_state_dependent_exploration(tmp_path: Path) -> None:
    _, _, shared = loaded(tmp_path, ppo(torch.full((6, 1), -0.4)))
    _, _, each = loaded(tmp_path, ppo(torch.full((6, 2), -0.4)))
    np.testing.assert_array_equal(shared, each)


def test_ppo_that_squashes_is_read_before_the_tanh(tmp_path: Path) -> None:
    state = ppo(torch.zeros(6, 2))
    spec, mean, _ = loaded(tmp_path, state, policy_kwargs={"squash_output": True})
    assert spec.dist == "squashed_gaussian"
    own = linear(state, "action_net", tower(state, ON_POLICY, OBSERVATIONS, np.tanh))
    np.testing.assert_allclose(mean, own, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("algorithm", ["SAC", "TQC"])
def test_sac_has_a_squashed_gaussian(tmp_path: Path, algorithm: str) -> None:
    state = sac(actor__mu=(2, 6), actor__log_std=(2, 6))
    marks = {"top_quantiles_to_drop_per_net": 2} if algorithm == "TQC" else {}
    spec, mean, std = loaded(tmp_path, state, **marks)
    assert (spec.dist, spec.has_value) == ("squashed_gaussian", False)
    assert spec.provenance["algorithm"] == algorithm
    assert (spec.network.hidden, spec.network.activation) == ((7, 6), "relu")
    features = tower(state, SAC, OBSERVATIONS, relu)
    np.testing.assert_allclose(mean, linear(state, "actor.mu", features), rtol=1e-4, atol=1e-5)
    log_std = np.clip(linear(state, "actor.log_std", features), -20, 2)
    np.testing.assert_allclose(std, np.exp(log_std), rtol=1e-4)


@pytest.mark.parametrize(("kwargs", "bound"), [({}, 2.0), ({"clip_mean": 0.5}, 0.5)])
def test_sac_with_state_dependent_exploration_clips_its_mean(
    tmp_path: Path, kwargs: dict[str, Any], bound: float
) -> None:
    log_std = torch.full((6, 2), -1.0)
    state = sac(actor__mu__0=(2, 6)) | {"actor.log_std": log_std}
    spec, mean, std = loaded(tmp_path, state, policy_kwargs=kwargs)
    assert spec.network.gsde == GSDESpec(clip_mean=bound)
    features = tower(state, SAC, OBSERVATIONS, relu)
    own = np.clip(linear(state, "actor.mu.0", features), -bound, bound)
    np.testing.assert_allclose(mean, own, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(std, np.minimum(gsde_std(features, log_std), np.e**2), rtol=1e-3)


@pytest.mark.parametrize("algorithm", ["TD3", "DDPG"])
def test_td3_is_deterministic(tmp_path: Path, algorithm: str) -> None:
    state = td3()
    if algorithm == "DDPG":
        state = {name: w for name, w in state.items() if "qf1" not in name}
    spec, before_tanh, _ = loaded(tmp_path, state)
    assert (spec.dist, spec.network.hidden) == ("deterministic", (7, 6))
    assert spec.provenance["algorithm"] == algorithm
    features = tower(state, ["actor.mu.0", "actor.mu.2"], OBSERVATIONS, relu)
    wanted = linear(state, "actor.mu.4", features)
    np.testing.assert_allclose(before_tanh, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("state", "changes", "complaint"),
    [
        (ppo(torch.zeros(2)), {"action_space": {}}, "the bounds of its actions are not understood"),
        (ppo(torch.zeros(2)), {"action_space": SPACE | {"_shape": [3]}}, "(shape [3], low [-2.  0"),
        (ppo(torch.zeros(2)), {"action_space": SPACE | {"low": "[-2. ... 0.]"}}, "no policy"),
        (ppo(torch.zeros(2)), {"action_space": SPACE | {"high": "[inf inf]"}}, "a finite number"),
        (ppo(torch.zeros(3)), {}, "3 deviations for actions that are vectors of 2"),
        (ppo(torch.zeros(5, 2)), {}, "log_std of shape (5, 2) is not supported"),
        (ppo(torch.zeros(6, 2)), {"policy_kwargs": {"use_expln": True}}, "use_expln"),
        (sac(actor__mu=(3, 6), actor__log_std=(3, 6)), {}, "3 means for actions that are vectors"),
        (sac(actor__log_std=(2, 6)), {}, "tensor actor.mu.bias is missing"),
        (
            sac(actor__mu__0=(2, 6)) | {"actor.log_std": torch.zeros(6, 2)},
            {"policy_kwargs": {"clip_mean": "?"}},
            "clip_mean = '?' is not understood",
        ),
        (layers(0, actor__mu=(2, 5)), {}, "without hidden layers"),
    ],
)
def test_what_is_not_understood_is_refused(
    tmp_path: Path, state: State, changes: dict[str, Any], complaint: str
) -> None:
    changes = {"action_space": SPACE} | changes
    if complaint == "no policy":
        changes["action_space"]["low"] = "[-2. ... 0. 1.]"
        complaint = "the bounds of its actions are not understood"
    assert complaint in refusal(write(tmp_path, state, **changes))


ZOO = {
    "ppo/Pendulum-v1": ("Pendulum-v1", "gaussian", -167.3, 116.5),
    "sac/Pendulum-v1": ("Pendulum-v1", "squashed_gaussian", -142.6, 85.1),
    "ppo/LunarLanderContinuous-v2": ("LunarLanderContinuous-v3", "gaussian", 271.3, 25.8),
}
"""Environment, kind, and mean and deviation of the return that were measured with the zip."""


@pytest.mark.filterwarnings("ignore:builtin type:DeprecationWarning")  # Box2D's bindings
@pytest.mark.parametrize("name", ZOO)
def test_zoo_teachers_play_as_well_as_they_were_measured(shared_teachers: Path, name: str) -> None:
    env_id, dist, mean, deviation = ZOO[name]
    policy = load_teacher(shared_teachers / "sb3-zoo" / name / f"{Path(name).name}.zip")
    assert policy.spec.dist == dist
    assert env_id in gymnasium.registry
    env = make_environment(GymnasiumConfig(id=env_id), num_envs=10)
    result = evaluate(env, InferencePolicy(policy), acting=ActingSpec(), num_episodes=10, seed=0)
    env.close()
    assert np.mean(result.returns) == pytest.approx(mean, abs=3 * deviation / np.sqrt(10))
