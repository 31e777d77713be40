import pytest
import torch

from common.networks.inputs import cast_frames, cut_stacks, join_blocks
from learners.features import TeacherFeatures, WithProjection
from tests.builders import SIZE, STACK, VECTOR, make_policy

CPU = torch.device("cpu")
SCALED = {"shape": (VECTOR,), "dtype": "float32", "scale": 0.5}


def random_frames(count: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, STACK, SIZE, SIZE), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("block", [2, 4])
def test_squares_are_put_together_to_the_frames_that_they_were_cut_from(block: int) -> None:
    frames = random_frames()
    squares = torch.from_numpy(cut_stacks(frames.numpy(), block))
    joined = join_blocks(cast_frames(squares, torch.float32, "blocks"), block)
    assert torch.equal(joined, frames.float())


def test_features_are_the_last_hidden_layer_of_the_scaled_observation() -> None:
    teacher = make_policy(observation=SCALED)
    observations = torch.randn(4, VECTOR)
    ask = TeacherFeatures(teacher, layout="contiguous", block=None, device=CPU)
    layer = teacher.network.layers[0]
    wanted = torch.relu(0.5 * observations @ layer.weight.T + layer.bias)
    torch.testing.assert_close(ask(observations), wanted.detach())


def test_features_are_of_what_the_policy_normalises() -> None:
    normalizer = {"mean": (1.0,) * VECTOR, "std": (2.0,) * VECTOR, "clip": 0.5}
    spec = {
        "observation": {"shape": (VECTOR,), "dtype": "float32", "normalizer": normalizer},
        "network": {"name": "mlp", "hidden": (16,), "gsde": {}},
        "num_actions": None,
        "action_box": {"low": (-1.0,), "high": (1.0,)},
        "dist": "gaussian",
    }
    policy, observations = make_policy(**spec), torch.randn(4, VECTOR)
    layer = policy.network.layers[0]
    seen = ((observations - 1.0) / 2.0).clamp(-0.5, 0.5)
    wanted = torch.relu(seen @ layer.weight.T + layer.bias).detach()
    ask = TeacherFeatures(policy, layout="contiguous", block=None, device=CPU)
    torch.testing.assert_close(ask(observations), wanted)
    student = WithProjection(policy.network, 7, seed=0)
    found = student(observations).features
    torch.testing.assert_close(found, wanted @ student.projection.weight.T)


@pytest.mark.parametrize("block", [2, 4])
def test_a_teacher_sees_the_students_frames_in_any_layout(block: int) -> None:
    """Squares of 2 are what the teacher takes itself; of 4, it does not."""
    teacher, frames = make_policy("frames", seed=3), random_frames()
    plain = TeacherFeatures(teacher, layout="contiguous", block=None, device=CPU)
    wanted = plain(frames.float())
    assert wanted.shape == (5, 16)
    assert bool(wanted.any())
    last = TeacherFeatures(teacher, layout="channels_last", block=None, device=CPU)
    found = last(cast_frames(frames, torch.float32, "channels_last"))
    torch.testing.assert_close(found, wanted)
    squares = torch.from_numpy(cut_stacks(frames.numpy(), block))
    blocks = TeacherFeatures(teacher, layout="blocks", block=block, device=CPU)
    torch.testing.assert_close(blocks(cast_frames(squares, torch.float32, "blocks")), wanted)


def test_a_teacher_that_is_asked_for_features_does_not_learn() -> None:
    teacher = make_policy(seed=3)
    ask = TeacherFeatures(teacher, layout="contiguous", block=None, device=CPU)
    assert not ask(torch.randn(2, VECTOR)).requires_grad
    assert all(parameter.requires_grad for parameter in teacher.network.parameters())


def test_a_projection_maps_features_and_leaves_the_other_outputs() -> None:
    student = make_policy(has_value=True).network
    projected = WithProjection(student, 7, seed=0)
    observations = torch.randn(4, VECTOR)
    plain, output = student(observations), projected(observations)
    assert torch.equal(output.dist_inputs, plain.dist_inputs)
    assert torch.equal(output.value, plain.value)
    torch.testing.assert_close(output.features, plain.features @ projected.projection.weight.T)


def test_a_projection_is_the_same_for_a_seed_and_leaves_the_random_state() -> None:
    state = torch.get_rng_state()
    first, again, other = (
        WithProjection(make_policy().network, 7, seed=seed).projection.weight for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)
