import numpy as np
import pytest
import torch

from common.networks.inputs import cast_frames, cut_planes, cut_stacks
from common.networks.nature_cnn import NatureCNN, NatureCNNSpec

DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def frames(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)


def squares_by_hand(planes: np.ndarray, block: int) -> np.ndarray:
    count, height, width = planes.shape
    squares = np.zeros((count, height // block, width // block, block * block), np.uint8)
    for p, y, x in np.ndindex(planes.shape):
        inside = (y % block) * block + x % block
        squares[p, y // block, x // block, inside] = planes[p, y, x]
    return squares


@pytest.mark.parametrize("block", [2, 4, 8])
def test_planes_are_cut_into_squares(block):
    planes = frames(3, 16, 24)
    out = np.empty((3, 16 // block, 24 // block, block * block), np.uint8)
    cut_planes(planes, block, out)
    np.testing.assert_array_equal(out, squares_by_hand(planes, block))


def test_a_stack_of_squares_is_its_planes_one_after_the_other():
    stacks = frames(2, 3, 8, 12)[:, :, :, :8]  # not contiguous
    squares = cut_stacks(stacks, 4)
    for stack, cut in zip(stacks, squares, strict=True):
        np.testing.assert_array_equal(cut, squares_by_hand(stack, 4))


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_byte_is_cast_exactly_and_the_frames_are_left_alone(dtype, layout):
    values = torch.arange(256, dtype=torch.uint8).view(1, 4, 8, 8)
    cast = cast_frames(values, dtype, layout)
    assert cast.dtype is dtype
    torch.testing.assert_close(cast.float(), values.float(), rtol=0, atol=0)
    cast.zero_()
    assert values.sum() == 255 * 128


@pytest.mark.parametrize("value_head", [True, False])
@pytest.mark.parametrize(
    ("kernels", "strides", "size"),
    [
        ((8, 4, 3), (4, 2, 1), (84, 84)),
        ((4, 3, 3), (2, 1, 1), (20, 12)),
        ((8, 3), (8, 1), (40, 32)),
    ],
)
def test_every_layout_gives_the_same_outputs_and_gradients(kernels, strides, size, value_head):
    spec = NatureCNNSpec(
        channels=(6, 5, 4)[: len(kernels)], kernels=kernels, strides=strides, hidden=7
    )
    torch.manual_seed(0)
    network = NatureCNN(spec, observation_shape=(3, *size), num_actions=4, has_value=value_head)
    assert network.layouts() == ("contiguous", "channels_last", "blocks")
    observations = frames(5, 3, *size)
    answers = {}
    for layout in network.layouts():
        given = cut_stacks(observations, strides[0]) if layout == "blocks" else observations
        inputs = cast_frames(torch.from_numpy(given), torch.float32, layout)
        network.set_layout(layout)
        output = network(inputs, input_scale=1 / 255)
        network.zero_grad()
        output.dist_inputs.square().sum().backward()
        answers[layout] = (output.dist_inputs, network.convs[0].weight.grad.clone())
    for layout, (outputs, gradient) in answers.items():
        wanted, wanted_gradient = answers["contiguous"]
        torch.testing.assert_close(outputs, wanted, msg=layout)
        torch.testing.assert_close(gradient, wanted_gradient, msg=layout)


@pytest.mark.parametrize(
    ("kernel", "stride", "size"),
    [(8, 3, (84, 84)), (8, 4, (82, 84)), (8, 4, (84, 82)), (6, 4, (84, 84)), (4, 1, (84, 84))],
)
def test_networks_whose_first_layer_does_not_fit_take_no_blocks(kernel, stride, size):
    spec = NatureCNNSpec(channels=(4,), kernels=(kernel,), strides=(stride,), hidden=3)
    network = NatureCNN(spec, observation_shape=(4, *size), num_actions=3, has_value=False)
    assert network.block is None
    assert network.layouts() == ("contiguous", "channels_last")
