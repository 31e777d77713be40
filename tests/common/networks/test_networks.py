import pytest
import torch
from pydantic import ValidationError

from common.errors import MismatchError
from common.networks import NETWORKS, PolicyNetwork, build_network
from common.networks.impala_cnn import ImpalaCNNSpec
from common.networks.lstm import LSTMSpec
from common.networks.mlp import MLPSpec
from common.networks.nature_cnn import SIZES, NatureCNNSpec

FRAMES = (4, 84, 84)
EXAMPLES = {
    "nature_cnn": (NatureCNNSpec.model_validate({"size": "62k"}), FRAMES),
    "impala_cnn": (ImpalaCNNSpec(channels=(4, 6), blocks=1, hidden=8), (4, 21, 20)),
    "mlp": (MLPSpec(hidden=(8, 6)), (5,)),
    "lstm": (LSTMSpec(torso=MLPSpec(hidden=(8,)), hidden=6), (5,)),
}
"""One specification and observation shape for every network."""

TOWERS = {
    "mlp tower": (MLPSpec(hidden=(8,), value_hidden=(7, 6)), (5,)),
    "mlp linear value": (MLPSpec(hidden=(8,), value_hidden=(), activation="tanh"), (5,)),
    "mlp of some inputs": (MLPSpec(hidden=(8,), value_hidden=(), inputs=(0, 3)), (5,)),
}
RUSU_TABLE_1 = {"nature": 1_693_362, "428k": 427_874, "113k": 113_346, "62k": 61_954}

CASES = [
    pytest.param(spec, shape, has_value, id=f"{name} {'with' if has_value else 'without'} value")
    for name, (spec, shape) in {**EXAMPLES, **TOWERS}.items()
    for has_value in (True, False)
]


def build(spec, shape, has_value=False, num_actions=6) -> PolicyNetwork:
    torch.manual_seed(0)
    return build_network(
        spec, observation_shape=shape, num_actions=num_actions, has_value=has_value
    )


def test_every_network_has_an_example():
    assert EXAMPLES.keys() == NETWORKS.keys()
    assert {name: spec.name for name, (spec, _) in EXAMPLES.items()} == {n: n for n in NETWORKS}


@pytest.mark.parametrize(("spec", "shape", "has_value"), CASES)
def test_a_network_maps_observations_to_outputs(spec, shape, has_value):
    network = build(spec, shape, has_value)
    assert isinstance(network, NETWORKS[spec.name])
    output = network(torch.rand(3, *shape))
    assert output.dist_inputs.shape == (3, 6)
    assert (output.value is not None) == has_value
    if output.value is not None:
        assert output.value.shape == (3,)


@pytest.mark.parametrize(("spec", "shape", "has_value"), CASES)
def test_every_weight_learns(spec, shape, has_value):
    network = build(spec, shape, has_value)
    shape_of_memory = network.memory_shape
    remembered = {} if shape_of_memory is None else {"memory": torch.rand(3, *shape_of_memory)}
    output = network(torch.rand(3, *shape), **remembered)
    loss = output.dist_inputs.square().sum()
    if output.value is not None:
        loss = loss + output.value.square().sum()
    loss.backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.any()), name


@pytest.mark.parametrize(("spec", "shape", "has_value"), CASES)
def test_a_scale_folded_into_the_first_layers_scales_the_observation(spec, shape, has_value):
    network = build(spec, shape, has_value).requires_grad_(False)
    observations = torch.rand(3, *shape)
    wanted = network(0.25 * observations)
    network.fold_scale(0.25)
    found = network(observations)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize(("spec", "shape", "has_value"), CASES)
def test_samples_do_not_see_each_other(spec, shape, has_value):
    network = build(spec, shape, has_value).requires_grad_(False)
    observations = torch.rand(4, *shape)
    torch.testing.assert_close(
        network(observations[1:2]).dist_inputs, network(observations).dist_inputs[1:2]
    )


@pytest.mark.parametrize("size", SIZES)
def test_sizes_have_the_parameters_of_rusu_table_1(size):
    network = build(NatureCNNSpec.model_validate({"size": size}), FRAMES, num_actions=18)
    assert sum(parameter.numel() for parameter in network.parameters()) == RUSU_TABLE_1[size]


@pytest.mark.parametrize(
    ("spec", "shape", "reason"),
    [
        (EXAMPLES["mlp"][0], (4, 84, 84), "use network nature_cnn for frames"),
        (EXAMPLES["mlp"][0], (), "takes vectors"),
        (EXAMPLES["nature_cnn"][0], (5,), "use network mlp for vectors"),
        (EXAMPLES["nature_cnn"][0], (4, 84), "takes frames"),
        (EXAMPLES["nature_cnn"][0], (4, 84, 30), "too small for layer conv3"),
        (EXAMPLES["nature_cnn"][0], (4, 7, 84), "too small for layer conv1"),
    ],
)
def test_observations_that_do_not_fit_are_refused_in_one_line(spec, shape, reason):
    with pytest.raises(MismatchError, match=reason) as caught:
        build(spec, shape)
    assert "\n" not in str(caught.value)


def test_a_size_stands_for_channels_and_hidden():
    spec = NatureCNNSpec.model_validate({"size": "428k", "kernels": (8, 4, 2)})
    assert (spec.channels, spec.hidden, spec.kernels) == ((16, 32, 32), 256, (8, 4, 2))


@pytest.mark.parametrize(
    ("model", "values", "reason"),
    [
        (NatureCNNSpec, {"size": "tiny"}, "unknown size; allowed: nature, 428k, 113k, 62k"),
        (NatureCNNSpec, {"size": "62k", "hidden": 3}, "give one or the other"),
        (NatureCNNSpec, {"channels": (4, 4)}, "one entry a layer: 2, 3, 3"),
        (NatureCNNSpec, {"channels": (), "kernels": (), "strides": ()}, "one entry a layer"),
        (NatureCNNSpec, {"strides": (4, 0, 1)}, "greater than 0"),
        (NatureCNNSpec, {"kernels": (8, 4, -3)}, "greater than 0"),
        (NatureCNNSpec, {"channels": (8, 0, 8)}, "greater than 0"),
        (NatureCNNSpec, {"hidden": 0}, "greater than 0"),
        (MLPSpec, {"hidden": ()}, "at least 1 item"),
        (MLPSpec, {"hidden": (4, 0)}, "greater than 0"),
        (MLPSpec, {"value_hidden": (-1,)}, "greater than 0"),
        (MLPSpec, {"activation": "step"}, "'relu', 'tanh' or 'elu'"),
    ],
)
def test_specifications_that_make_no_network_are_refused(model, values, reason):
    with pytest.raises(ValidationError, match=reason):
        model.model_validate(values)


def test_a_network_of_some_inputs_sees_no_others():
    network = build(MLPSpec(hidden=(8,), value_hidden=(), inputs=(3, 0)), (5,), has_value=True)
    plain = build(MLPSpec(hidden=(8,), value_hidden=()), (2,), has_value=True)
    plain.load_state_dict(network.state_dict())
    observation = torch.rand(3, 5)
    output, expected = network(observation), plain(observation[:, [3, 0]])
    assert torch.equal(output.dist_inputs, expected.dist_inputs)
    assert torch.equal(output.value, expected.value)


@pytest.mark.parametrize("inputs", [(0, 5), (1, 1)])
def test_inputs_that_are_not_there_are_refused(inputs):
    with pytest.raises(MismatchError, match="name different entries of the observation"):
        build(MLPSpec(inputs=inputs), (5,))


def test_impala_cnn_has_the_papers_layers():
    """Espeholt et al. 2018, figure 3: fifteen convolutions, 3,872 features, 256 units."""
    network = build(ImpalaCNNSpec(), FRAMES)
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) == 15
    assert network.fc.weight.shape == (256, 32 * 11 * 11)
    assert network.features(torch.rand(2, *FRAMES)).shape == (2, 256)


def test_a_fresh_residual_block_changes_little():
    network = build(ImpalaCNNSpec(), FRAMES)
    network.initialise()
    x = torch.rand(2, 16, 9, 9)
    change = network.sections[0].blocks[0](x) - x
    assert 0 < change.std() < 0.3 * x.std()


def test_impala_cnn_takes_frames_only():
    with pytest.raises(MismatchError, match="use network mlp for vectors"):
        build(ImpalaCNNSpec(), (5,))
