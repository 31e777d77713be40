import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from common.errors import PolicyFileError
from common.networks import MLPSpec, NatureCNNSpec
from common.policies.inference import InferencePolicy
from common.policies.spec import ActingSpec, ObservationSpec, PolicySpec
from common.teachers import load_teacher


class Agent(nn.Module):
    """Laid out as a script of CleanRL lays its networks out."""

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)


def tower(*sizes: int, activation: type[nn.Module]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), activation()]
    return nn.Sequential(*layers[:-1])


def convolutions() -> list[nn.Module]:
    return [
        nn.Conv2d(4, 32, 8, stride=4),
        nn.ReLU(),
        nn.Conv2d(32, 64, 4, stride=2),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, stride=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(3136, 16),
        nn.ReLU(),
    ]


def ppo() -> Agent:
    return Agent(
        critic=tower(5, 8, 7, 1, activation=nn.Tanh), actor=tower(5, 9, 6, 3, activation=nn.Tanh)
    )


def ppo_atari() -> Agent:
    network = nn.Sequential(*convolutions())
    return Agent(network=network, actor=nn.Linear(16, 6), critic=nn.Linear(16, 1))


def dqn() -> Agent:
    return Agent(network=tower(5, 12, 8, 3, activation=nn.ReLU))


def dqn_atari() -> Agent:
    return Agent(network=nn.Sequential(*convolutions(), nn.Linear(16, 6)))


def save(folder: Path, loaded: object, name: str = "dqn.cleanrl_model") -> Path:
    path = folder / name
    torch.save(loaded, path)
    return path


def load(folder: Path, agent: Agent) -> tuple[PolicySpec, InferencePolicy]:
    policy = load_teacher(save(folder, agent.state_dict()))
    assert policy.spec.provenance["format"] == "cleanrl"
    return policy.spec, InferencePolicy(policy)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


VECTORS = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
FRAMES = np.random.default_rng(0).integers(0, 256, (3, 4, 84, 84), dtype=np.uint8)


@torch.no_grad()
def test_ppo(tmp_path: Path) -> None:
    agent = ppo()
    spec, policy = load(tmp_path, agent)
    assert spec.network == MLPSpec(hidden=(9, 6), activation="tanh", value_hidden=(8, 7))
    assert spec.observation == ObservationSpec(shape=(5,), dtype="float32")
    assert (spec.dist, spec.has_value, spec.acting) == ("logits", True, ActingSpec(mode="sample"))
    outputs, x = policy(VECTORS), torch.from_numpy(VECTORS)
    np.testing.assert_allclose(outputs.dist_inputs, agent.actor(x), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(outputs.value, agent.critic(x)[:, 0], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_dqn(tmp_path: Path) -> None:
    agent = dqn()
    spec, policy = load(tmp_path, agent)
    assert spec.network == MLPSpec(hidden=(12, 8), activation="relu")
    assert (spec.dist, spec.has_value, spec.acting) == ("q_values", False, ActingSpec())
    wanted = agent.network(torch.from_numpy(VECTORS))
    np.testing.assert_allclose(policy(VECTORS).dist_inputs, wanted, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_ppo_on_atari(tmp_path: Path) -> None:
    agent = ppo_atari()
    spec, policy = load(tmp_path, agent)
    assert spec.network == NatureCNNSpec(hidden=16)
    assert spec.observation == ObservationSpec(shape=(4, 84, 84), dtype="uint8", scale=1 / 255)
    outputs, features = policy(FRAMES), agent.network(torch.from_numpy(FRAMES) / 255.0)
    np.testing.assert_allclose(outputs.dist_inputs, agent.actor(features), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(outputs.value, agent.critic(features)[:, 0], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_dqn_on_atari(tmp_path: Path) -> None:
    agent = dqn_atari()
    spec, policy = load(tmp_path, agent)
    assert (spec.num_actions, spec.dist, spec.has_value) == (6, "q_values", False)
    wanted = agent.network(torch.from_numpy(FRAMES) / 255.0)
    np.testing.assert_allclose(policy(FRAMES).dist_inputs, wanted, rtol=1e-4, atol=1e-5)


def state(agent: Agent, **changes: torch.Tensor) -> dict[str, torch.Tensor]:
    return dict(agent.state_dict()) | {k.replace("__", "."): v for k, v in changes.items()}


@pytest.mark.parametrize(
    ("loaded", "complaint"),
    [
        (state(dqn(), lstm__weight_ih_l0=torch.zeros(4, 4)), "recurrent teachers"),
        (state(ppo(), actor_logstd=torch.zeros(1, 3)), "continuous actions are not supported"),
        ({"model_weights": dqn().state_dict(), "args": {}}, "C51"),
        (state(dqn(), extra__weight=torch.zeros(2, 2)), "tensor extra.weight is not understood"),
        ({"network.0.weight": torch.zeros(3, 5)}, "tensor network.0.bias is missing"),
        (Agent(network=nn.Sequential(nn.Linear(5, 3))).state_dict(), "without hidden layers"),
        (
            Agent(network=nn.Sequential(*convolutions()[2:], nn.Linear(16, 6))).state_dict(),
            "are no Nature-CNN",
        ),
        ({}, "is not a state dict"),
        ([1, 2], "is not a state dict"),
        ({"network.0.weight": 3}, "is not an ordinary float tensor"),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path: Path, loaded: object, complaint: str) -> None:
    path = save(tmp_path, loaded)
    with pytest.raises(PolicyFileError) as caught:
        load_teacher(path)
    assert complaint in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).count(str(path)) == 1
    assert "\n" not in str(caught.value)


def test_frames_of_another_size_do_not_fit(tmp_path: Path) -> None:
    agent = ppo_atari()
    loaded = state(agent) | {"network.7.weight": torch.zeros(16, 64)}
    with pytest.raises(PolicyFileError, match="tensor fc"):
        load_teacher(save(tmp_path, loaded))
