from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from common.networks import MLPSpec, NatureCNNSpec
from common.policies.spec import ActingSpec, ObservationSpec
from common.teachers import load_teacher
from tests.common.teachers.sb3_files import (
    BOX,
    FRAMES,
    State,
    actor_critic,
    cnn_actor_critic,
    convolutions,
    layers,
    q_network,
    write,
    zoo_zip,
)


def tower(state: State, names: list[str], x: np.ndarray, activation: Any) -> np.ndarray:
    for name in names:
        weight, bias = state[f"{name}.weight"].numpy(), state[f"{name}.bias"].numpy()
        x = activation(x.astype(np.float64) @ weight.T.astype(np.float64) + bias)
    return x


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def identity(x: np.ndarray) -> np.ndarray:
    return x


def assert_outputs(path: Path, x: np.ndarray, wanted: np.ndarray, value: np.ndarray | None) -> None:
    with torch.no_grad():
        output = load_teacher(path).network(torch.from_numpy(x))
    np.testing.assert_allclose(output.dist_inputs, wanted, rtol=1e-4, atol=1e-5)
    if value is None:
        assert output.value is None
    else:
        assert output.value is not None
        np.testing.assert_allclose(output.value, value[:, 0], rtol=1e-4, atol=1e-5)


@pytest.fixture
def observations() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(11, 5)).astype(np.float32)


def test_an_actor_critic(tmp_path: Path, observations: np.ndarray) -> None:
    state = actor_critic()
    path = write(tmp_path, state, clip_range=0.2)
    spec = load_teacher(path).spec
    assert spec.network == MLPSpec(hidden=(7, 6), activation="tanh", value_hidden=(9,))
    assert spec.observation == ObservationSpec(shape=(5,), dtype="float32")
    assert (spec.num_actions, spec.dist, spec.has_value) == (3, "logits", True)
    assert spec.acting == ActingSpec(mode="greedy")
    assert spec.name == "ppo-teacher"
    assert spec.provenance == {
        "format": "stable-baselines3",
        "algorithm": "PPO",
        "version": "2.7.0",
    }
    actor = ["mlp_extractor.policy_net.0", "mlp_extractor.policy_net.2"]
    features = tower(state, actor, observations, np.tanh)
    critic = tower(state, ["mlp_extractor.value_net.0"], observations, np.tanh)
    logits = tower(state, ["action_net"], features, identity)
    assert_outputs(path, observations, logits, tower(state, ["value_net"], critic, identity))


def test_a_q_network_takes_the_online_weights(tmp_path: Path, observations: np.ndarray) -> None:
    state = q_network()
    path = write(tmp_path, state)
    spec = load_teacher(path).spec
    assert spec.network == MLPSpec(hidden=(7, 6), activation="relu")
    assert (spec.dist, spec.has_value) == ("q_values", False)
    assert spec.provenance["algorithm"] == "DQN"
    features = tower(state, ["q_net.q_net.0", "q_net.q_net.2"], observations, relu)
    assert_outputs(path, observations, tower(state, ["q_net.q_net.4"], features, identity), None)


def test_a_quantile_network_gives_its_mean(tmp_path: Path, observations: np.ndarray) -> None:
    state = layers(
        1,
        quantile_net__quantile_net__0=(7, 5),
        quantile_net__quantile_net__2=(6, 7),
        quantile_net__quantile_net__4=(4 * 3, 6),
        quantile_net_target__quantile_net__0=(7, 5),
    )
    path = write(tmp_path, state)
    spec = load_teacher(path).spec
    assert spec.network == MLPSpec(hidden=(7, 6), activation="relu")
    assert (spec.num_actions, spec.dist, spec.has_value) == (3, "q_values", False)
    assert spec.provenance["algorithm"] == "QR-DQN"
    hidden = ["quantile_net.quantile_net.0", "quantile_net.quantile_net.2"]
    features = tower(state, hidden, observations, relu)
    quantiles = tower(state, ["quantile_net.quantile_net.4"], features, identity)
    assert_outputs(path, observations, quantiles.reshape(-1, 4, 3).mean(1), None)


def test_layers_that_actor_and_critic_share(tmp_path: Path, observations: np.ndarray) -> None:
    state = layers(
        4,
        mlp_extractor__shared_net__0=(8, 5),
        mlp_extractor__policy_net__0=(7, 8),
        mlp_extractor__value_net__0=(8, 8),
        mlp_extractor__value_net__2=(8, 8),
        action_net=(3, 7),
        value_net=(1, 8),
    )
    path = write(tmp_path, dict(reversed(state.items())))
    spec = load_teacher(path).spec
    assert spec.network == MLPSpec(hidden=(8, 7), activation="tanh", value_hidden=(8, 8, 8))
    assert spec.provenance["algorithm"] == "A2C"
    shared = tower(state, ["mlp_extractor.shared_net.0"], observations, np.tanh)
    actor = tower(state, ["mlp_extractor.policy_net.0"], shared, np.tanh)
    critic_layers = ["mlp_extractor.value_net.0", "mlp_extractor.value_net.2"]
    critic = tower(state, critic_layers, shared, np.tanh)
    logits = tower(state, ["action_net"], actor, identity)
    assert_outputs(path, observations, logits, tower(state, ["value_net"], critic, identity))


def test_a_critic_straight_on_the_shared_layers(tmp_path: Path) -> None:
    state = layers(
        5,
        mlp_extractor__shared_net__0=(8, 5),
        mlp_extractor__policy_net__0=(7, 8),
        action_net=(3, 7),
        value_net=(1, 8),
    )
    network = load_teacher(write(tmp_path, state)).spec.network
    assert network == MLPSpec(hidden=(8, 7), activation="tanh", value_hidden=(8,))


def test_a_trunk_of_only_shared_layers(tmp_path: Path) -> None:
    state = layers(5, mlp_extractor__shared_net__0=(8, 5), action_net=(3, 8), value_net=(1, 8))
    network = load_teacher(write(tmp_path, state)).spec.network
    assert network == MLPSpec(hidden=(8,), activation="tanh", value_hidden=None)


@pytest.mark.parametrize(("name", "activation"), [("ReLU", "relu"), ("ELU", "elu")])
def test_the_activation_is_read_from_plain_text(tmp_path: Path, name: str, activation: str) -> None:
    kwargs = {
        ":type:": "<class 'dict'>",
        ":serialized:": "gAWV",
        "activation_fn": f"<class 'torch.nn.modules.activation.{name}'>",
    }
    network = load_teacher(write(tmp_path, actor_critic(), policy_kwargs=kwargs)).spec.network
    assert isinstance(network, MLPSpec)
    assert network.activation == activation


def test_a_cnn_actor_critic(tmp_path: Path) -> None:
    path = write(tmp_path, cnn_actor_critic(), observation_space=FRAMES)
    spec = load_teacher(path).spec
    assert spec.network == NatureCNNSpec(hidden=16)
    assert spec.observation == ObservationSpec(shape=(4, 84, 84), dtype="uint8", scale=1 / 255)
    assert (spec.num_actions, spec.dist, spec.has_value) == (6, "logits", True)


def test_a_cnn_q_network(tmp_path: Path) -> None:
    state = convolutions("q_net.features_extractor") | layers(6, q_net__q_net__0=(6, 16))
    data = {"observation_space": {":type:": BOX, "dtype": "uint8", "_shape": [84, 84, 4]}}
    policy = load_teacher(write(tmp_path, state, data=data))
    assert policy.spec.observation.shape == (4, 84, 84)
    assert (policy.spec.dist, policy.spec.has_value) == ("q_values", False)
    given = policy.network.state_dict()
    assert torch.equal(given["conv3.weight"], state["q_net.features_extractor.cnn.4.weight"])
    assert torch.equal(given["fc.bias"], state["q_net.features_extractor.linear.0.bias"])


def test_frames_that_are_not_divided(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        cnn_actor_critic(),
        observation_space=FRAMES,
        policy_kwargs={"normalize_images": False},
    )
    assert load_teacher(path).spec.observation.scale == 1.0


def test_bytes_of_a_console_memory_stay_bytes(tmp_path: Path) -> None:
    space = {":type:": BOX, "dtype": "uint8", "_shape": [5]}
    observation = load_teacher(write(tmp_path, q_network(), observation_space=space)).spec
    assert observation.observation == ObservationSpec(shape=(5,), dtype="uint8", scale=1.0)


@pytest.mark.parametrize(
    ("text", "env_id"),
    [
        ("!!python/object/apply:x\n- - - env_kwargs\n    - null\n  - - env\n    - A-v1\n", "A-v1"),
        ("algo: ppo\nenv: 'pkg/B-v0'\nenv_kwargs: null\n", "pkg/B-v0"),
    ],
)
def test_the_zoos_arguments_name_the_environment(tmp_path: Path, text: str, env_id: str) -> None:
    path = write(tmp_path, q_network())
    assert load_teacher(path).spec.environment == {}
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / "args.yml").write_text(text)
    assert load_teacher(path).spec.environment == {"family": "gymnasium", "id": env_id}


def test_an_atari_environment_is_named_as_a_game(tmp_path: Path) -> None:
    (tmp_path / "args.yml").write_text("env: SpaceInvadersNoFrameskip-v4\n")
    path = write(tmp_path, cnn_actor_critic(), observation_space=FRAMES)
    assert load_teacher(path).spec.environment == {
        "family": "atari",
        "id": "space_invaders",
        "sticky_actions": 0.0,
    }


ZOO = {
    "a2c/CartPole-v1": ("A2C", "logits", (64, 64), (64, 64), "tanh"),
    "ppo/CartPole-v1": ("PPO", "logits", (64, 64), (64, 64), "tanh"),
    "ppo/LunarLander-v2": ("PPO", "logits", (64, 64), (64, 64), "tanh"),
    "dqn/CartPole-v1": ("DQN", "q_values", (256, 256), None, "relu"),
    "dqn/LunarLander-v2": ("DQN", "q_values", (256, 256), None, "relu"),
    "qrdqn/CartPole-v1": ("QR-DQN", "q_values", (256, 256), None, "relu"),
}


@pytest.mark.parametrize("name", ZOO)
def test_zoo_teachers(shared_teachers: Path, name: str) -> None:
    algorithm, dist, hidden, value_hidden, activation = ZOO[name]
    spec = load_teacher(zoo_zip(shared_teachers, name)).spec
    assert spec.provenance["algorithm"] == algorithm
    assert spec.dist == dist
    assert spec.network.model_dump() == {
        "name": "mlp",
        "hidden": hidden,
        "activation": activation,
        "value_hidden": value_hidden,
        "gsde": None,
        "inputs": None,
    }
    assert spec.environment == {"family": "gymnasium", "id": Path(name).name}


@pytest.mark.parametrize("name", [name for name in ZOO if name.endswith("CartPole-v1")])
def test_zoo_teachers_play_as_well_as_they_were_measured(shared_teachers: Path, name: str) -> None:
    network = load_teacher(zoo_zip(shared_teachers, name)).network
    environment = gymnasium.make("CartPole-v1")
    observation, _ = environment.reset(seed=0)
    total, over = 0.0, False
    while not over:
        with torch.no_grad():
            output = network(torch.from_numpy(observation)[None])
        action = int(output.dist_inputs.argmax())
        observation, reward, terminated, truncated, _ = environment.step(action)
        total, over = total + float(reward), terminated or truncated
    environment.close()
    assert total == 500
