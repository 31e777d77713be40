from typing import Any

import pytest
import torch
from torch import nn

from common.policies.policy import new_policy
from common.policies.spec import ObservationSpec, PolicySpec
from learners.rl_module_copy import policy_from_rl_module, policy_to_rl_module


class FakeQModule(nn.Module):
    """Laid out as RLlib's default DQN module with one hidden layer."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(3, 8), activation)
        self.af = nn.Sequential(nn.Linear(8, 2))

    def compute_q_values(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"qf_preds": self.af(self.encoder(batch["obs"]))}


SPEC = PolicySpec(
    name="teacher",
    network={"name": "mlp", "hidden": [8]},
    observation=ObservationSpec(shape=(3,), dtype="float32"),
    num_actions=2,
    dist="q_values",
)


def test_the_copy_says_the_same_and_owns_its_weights() -> None:
    module = FakeQModule(nn.ReLU())
    policy = policy_from_rl_module(module, SPEC)
    observations = torch.randn(16, 3)
    expected = module.compute_q_values({"obs": observations})["qf_preds"].detach().clone()
    with torch.no_grad():
        module.af[0].weight.zero_()
    torch.testing.assert_close(policy.network(observations).dist_inputs, expected, rtol=0, atol=0)


def test_a_module_takes_the_weights_of_a_policy_and_leaves_them_to_it() -> None:
    module, policy = FakeQModule(nn.ReLU()), new_policy(SPEC, seed=0)
    policy_to_rl_module(policy, module)
    observations = torch.randn(16, 3)
    expected = policy.network(observations).dist_inputs.detach().clone()
    with torch.no_grad():
        policy.network.head.weight.zero_()
    said = module.compute_q_values({"obs": observations})["qf_preds"]
    torch.testing.assert_close(said, expected, rtol=0, atol=0)


def test_another_layout_is_an_error() -> None:
    module = FakeQModule(nn.Tanh())
    with pytest.raises(RuntimeError, match="FakeQModule has another layout"):
        policy_from_rl_module(module, SPEC)
    with pytest.raises(RuntimeError, match="FakeQModule has another layout"):
        policy_to_rl_module(new_policy(SPEC, seed=0), module)


@pytest.mark.parametrize(("value", "what"), [(float("nan"), "weights"), (3e38, "outputs")])
def test_diverged_weights_are_told(value: float, what: str) -> None:
    module: Any = FakeQModule(nn.ReLU())
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(value)
    with pytest.raises(FloatingPointError, match=what):
        policy_from_rl_module(module, SPEC)
