"""The network with a memory, against torch's own LSTM and by what it must not know."""

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from common.errors import MismatchError
from common.networks.base import Steps
from common.networks.lstm import LSTM, LSTMSpec
from common.networks.nature_cnn import NatureCNNSpec
from tests.builders import NUM_ACTIONS, SIZE, STACK, VECTOR

CNN = {"name": "nature_cnn", "channels": (4,), "kernels": (4,), "strides": (2,), "hidden": 8}
SHAPES: dict[str, tuple[int, ...]] = {"mlp": (VECTOR,), "nature_cnn": (STACK, SIZE, SIZE)}
TORSOS: dict[str, dict[str, Any]] = {"mlp": {"name": "mlp", "hidden": (7, 6)}, "nature_cnn": CNN}

each_torso = pytest.mark.parametrize("torso", TORSOS)


def network_of(torso: str, *, has_value: bool = True) -> LSTM:
    torch.manual_seed(0)
    network = LSTM(
        LSTMSpec.model_validate({"torso": TORSOS[torso], "hidden": 5}),
        observation_shape=SHAPES[torso],
        num_actions=NUM_ACTIONS,
        has_value=has_value,
    )
    network.initialise()
    return network.requires_grad_(False)


@pytest.mark.parametrize("torso", [{"gsde": {}}, {"value_hidden": (4,)}])
def test_a_torso_has_no_heads(torso: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="are of heads; a torso has none"):
        LSTMSpec.model_validate({"torso": {"name": "mlp"} | torso})


def steps_of(starts: torch.Tensor, burn_in: int = 0) -> Steps:
    return Steps(len(starts), starts, burn_in)


@each_torso
def test_sequences_without_starts_are_those_of_torchs_lstm(torso):
    network, length, copies = network_of(torso), 6, 3
    seen = torch.randn(length * copies, *SHAPES[torso])
    reference = nn.LSTM(network.core.input_size, network.core.hidden_size).requires_grad_(False)
    for name, tensor in network.core.state_dict().items():
        reference.state_dict()[f"{name}_l0"].copy_(tensor)
    features = network.torso.features(seen).view(length, copies, -1)
    hidden, (said, kept) = reference(features)
    starts = torch.zeros(length, copies, dtype=torch.bool)
    output = network(seen, steps=steps_of(starts))
    torch.testing.assert_close(output.dist_inputs, network.head(hidden).flatten(0, 1))
    assert network.value is not None
    torch.testing.assert_close(output.value, network.value(hidden).flatten())
    torch.testing.assert_close(output.memory, torch.stack([said[0], kept[0]], dim=1))
    torch.testing.assert_close(output.features, hidden.flatten(0, 1))


@each_torso
def test_a_sequence_is_its_rows_one_by_one_with_memories_handed_on(torso):
    network, length, copies = network_of(torso), 8, 3
    seen = torch.randn(length, copies, *SHAPES[torso])
    starts = torch.rand(length, copies) < 0.3
    together = network(seen.flatten(0, 1), steps=steps_of(starts))
    memory = torch.zeros(copies, *(network.memory_shape or ()))
    for t in range(length):
        memory[starts[t]] = 0.0
        output = network(seen[t], memory=memory)
        memory = output.memory
        rows = slice(t * copies, (t + 1) * copies)
        torch.testing.assert_close(output.dist_inputs, together.dist_inputs[rows])
        torch.testing.assert_close(output.value, together.value[rows])
    torch.testing.assert_close(memory, together.memory)


def test_what_was_before_a_start_is_forgotten():
    network, starts = network_of("mlp"), torch.zeros(5, 2, dtype=torch.bool)
    starts[3, 0] = True
    one, other = torch.randn(2, 5, 2, VECTOR)
    other[3:] = one[3:]
    first, second = (
        network(seen.flatten(0, 1), steps=steps_of(starts)).dist_inputs.view(5, 2, -1)
        for seen in (one, other)
    )
    torch.testing.assert_close(first[3:, 0], second[3:, 0])
    assert (first[3:, 1] != second[3:, 1]).any(-1).all()


@pytest.mark.parametrize("burn_in", [0, 2])
def test_no_gradient_reaches_what_is_burnt_in(burn_in):
    network = network_of("mlp")
    seen = torch.randn(6, 2, VECTOR, requires_grad=True)
    starts = torch.zeros(6, 2, dtype=torch.bool)
    output = network(seen.flatten(0, 1), steps=steps_of(starts, burn_in))
    output.dist_inputs.view(6, 2, -1)[burn_in:].sum().backward()
    assert seen.grad is not None
    assert (seen.grad[:burn_in] == 0).all()
    assert (seen.grad[burn_in:] != 0).any(-1).all()


@each_torso
def test_a_scale_folds_into_the_torsos_first_layer(torso):
    network = network_of(torso)
    seen = torch.randn(4, *SHAPES[torso])
    torch.testing.assert_close(
        network(seen, input_scale=0.5).dist_inputs, network(0.5 * seen).dist_inputs
    )


@each_torso
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_memory_stays_in_float32(torso, dtype):
    network = network_of(torso)
    seen = torch.rand(4, *SHAPES[torso])
    wanted = network(seen)
    network.set_precision(dtype)
    found = network(seen.to(dtype))
    assert found.memory is not None
    assert found.memory.dtype == found.dist_inputs.dtype == torch.float32
    torch.testing.assert_close(found.memory, wanted.memory, atol=0.05, rtol=0.05)


def test_fresh_weights_keep_what_the_cell_has():
    network = network_of("mlp")
    forget = network.core.bias_ih[5:10] + network.core.bias_hh[5:10]
    torch.testing.assert_close(forget, torch.ones(5))
    names = dict(network.named_parameters())
    assert not any(name.startswith("torso.head") for name in names)
    assert network.num_features == 5


def test_a_torso_that_cannot_take_the_observations_is_refused():
    with pytest.raises(MismatchError, match="nature_cnn takes frames"):
        LSTM(
            LSTMSpec(torso=NatureCNNSpec()),
            observation_shape=(4,),
            num_actions=2,
            has_value=False,
        )
