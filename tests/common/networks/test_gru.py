"""The teachers' network with a memory, against torch's own cell and worked out in NumPy."""

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn import functional as F

from common.errors import MismatchError
from common.networks import NETWORKS, build_network
from common.networks.gru import GRU, GRUSpec
from tests.builders import NUM_ACTIONS, SIZE, STACK

LAYERS: dict[str, Any] = {
    "channels": (3, 4),
    "kernels": (3, 3),
    "strides": (2, 2),
    "paddings": (1, 0),
    "activation": "elu",
    "hidden": 5,
}


def network_of(*, has_value: bool = True, **changes: Any) -> GRU:
    torch.manual_seed(0)
    network = build_network(
        GRUSpec.model_validate(LAYERS | changes),
        observation_shape=(STACK, SIZE, SIZE),
        num_actions=NUM_ACTIONS,
        has_value=has_value,
    )
    assert isinstance(network, GRU)
    return network.requires_grad_(False)


def frames(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(*shape, STACK, SIZE, SIZE, generator=generator)


@pytest.mark.parametrize("activation", ["elu", "relu"])
def test_a_sequence_is_what_torchs_cell_makes_of_it(activation: str) -> None:
    network, memory = network_of(activation=activation), torch.zeros(3, 5)
    state, apply = network.state_dict(), getattr(F, activation)
    cell = nn.GRUCell(4 * 2 * 2, 5).requires_grad_(False)
    cell.load_state_dict({k.removeprefix("rnn."): v for k, v in state.items() if "rnn." in k})
    wanted = memory
    for observation in frames(6, 3):
        output = network(observation, memory=memory)
        x = apply(F.conv2d(observation, state["conv1.weight"], state["conv1.bias"], 2, 1))
        x = apply(F.conv2d(x, state["conv2.weight"], state["conv2.bias"], 2, 0))
        wanted = cell(x.flatten(1), wanted)
        assert output.memory is not None
        assert output.value is not None
        memory = output.memory
        torch.testing.assert_close(memory, wanted)
        torch.testing.assert_close(output.dist_inputs, network.head(wanted))
        torch.testing.assert_close(output.value, network.value(wanted)[:, 0])
    assert memory.abs().max() > 0.01


def test_the_cell_worked_out_in_numpy() -> None:
    network = network_of()
    w = {name: tensor.double().numpy() for name, tensor in network.rnn.state_dict().items()}
    rng = np.random.default_rng(0)
    x, h = rng.normal(size=(16,)), rng.normal(size=(5,))
    driven = w["weight_ih"] @ x + w["bias_ih"]
    recalled = w["weight_hh"] @ h + w["bias_hh"]
    r, z = (1 / (1 + np.exp(-(driven[i : i + 5] + recalled[i : i + 5]))) for i in (0, 5))
    n = np.tanh(driven[10:] + r * recalled[10:])
    found = network._recur(*(torch.tensor(v, dtype=torch.float32)[None] for v in (x, h)))
    np.testing.assert_allclose(found[0], (1 - z) * n + z * h, rtol=1e-5, atol=1e-6)


def test_no_memory_is_a_memory_of_zeros() -> None:
    network, seen = network_of(), frames(2)
    assert network.memory_shape == (5,)
    torch.testing.assert_close(
        network(seen).memory, network(seen, memory=torch.zeros(2, 5)).memory, rtol=0, atol=0
    )


def test_the_input_scale_is_of_the_observation() -> None:
    network, seen = network_of(), frames(2)
    scaled = network(seen * 255, input_scale=1 / 255)
    torch.testing.assert_close(scaled.dist_inputs, network(seen).dist_inputs)
    network.fold_scale(0.5)
    torch.testing.assert_close(network(seen * 2).dist_inputs, network_of()(seen).dist_inputs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_it_computes_in_float32_whatever_is_asked(dtype: torch.dtype) -> None:
    network, seen = network_of(), (frames(2) * 255).byte()
    wanted = network(seen.float()).dist_inputs
    network.set_precision(dtype)
    assert network.precisions() == ("float32",)
    torch.testing.assert_close(network(seen.to(dtype)).dist_inputs, wanted, rtol=0, atol=0)


def test_layouts_change_nothing() -> None:
    seen = frames(2)
    for layout in network_of().layouts():
        network = network_of()
        network.set_layout(layout)
        given = seen.to(memory_format=torch.channels_last) if "last" in layout else seen
        torch.testing.assert_close(network(given).dist_inputs, network_of()(seen).dist_inputs)


def test_it_has_a_value_where_it_is_wanted() -> None:
    assert network_of(has_value=False)(frames(1)).value is None


def test_it_is_no_network_for_students() -> None:
    assert "gru" not in NETWORKS


def test_layers_of_different_numbers_are_refused() -> None:
    with pytest.raises(ValidationError, match="one entry a layer: 2, 2, 1, 2"):
        GRUSpec.model_validate(LAYERS | {"strides": (2,)})


@pytest.mark.parametrize(
    ("shape", "message"),
    [((4,), "takes frames"), ((STACK, 2, 2), "too small for layer conv2")],
)
def test_observations_that_do_not_fit_are_refused(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(MismatchError, match=message):
        GRU(GRUSpec.model_validate(LAYERS), observation_shape=shape, num_actions=2, has_value=False)
