import pytest
import torch

from common.policies.policy import Policy, new_policy, save_policy
from common.policies.spec import PolicySpec
from learners.footprint import measure_footprint


def frames_policy(size: str = "113k", *, has_value: bool = False) -> Policy:
    spec = {
        "name": "student",
        "network": {"name": "nature_cnn", "size": size},
        "observation": {"shape": (4, 84, 84), "dtype": "uint8", "scale": 1 / 255},
        "num_actions": 18,
        "has_value": has_value,
    }
    return new_policy(PolicySpec.model_validate(spec), seed=0)


def vector_policy(*, has_value: bool, value_hidden: tuple[int, ...] | None = None) -> Policy:
    spec = {
        "name": "student",
        "network": {"name": "mlp", "hidden": (16, 12), "value_hidden": value_hidden},
        "observation": {"shape": (4,), "dtype": "float32"},
        "num_actions": 2,
        "has_value": has_value,
    }
    return new_policy(PolicySpec.model_validate(spec), seed=0)


def conv(size: int, kernel: int, inputs: int, outputs: int) -> int:
    return size * size * outputs * kernel * kernel * inputs


NATURE_113K = conv(20, 8, 4, 16) + conv(9, 4, 16, 16) + conv(7, 3, 16, 16) + 784 * 128 + 128 * 18
NATURE = conv(20, 8, 4, 32) + conv(9, 4, 32, 64) + conv(7, 3, 64, 64) + 3136 * 512 + 512 * 18
TRUNK = 4 * 16 + 16 * 12


@pytest.mark.parametrize(
    ("policy", "parameters", "multiply_adds"),
    [
        (frames_policy(), 113_346, NATURE_113K),
        (frames_policy("nature"), 1_693_362, NATURE),
        (frames_policy(has_value=True), 113_346 + 129, NATURE_113K + 128),
        (vector_policy(has_value=False), 80 + 204 + 26, TRUNK + 24),
        (vector_policy(has_value=True), 80 + 204 + 26 + 13, TRUNK + 24 + 12),
        (
            vector_policy(has_value=True, value_hidden=(8,)),
            80 + 204 + 26 + 40 + 9,
            TRUNK + 24 + 4 * 8 + 8,
        ),
    ],
    ids=["113k", "nature", "113k value", "mlp", "mlp value", "mlp value tower"],
)
def test_counts_equal_a_count_by_hand(policy, parameters, multiply_adds):
    footprint = measure_footprint(policy, bytes_on_disk=1)
    assert footprint.parameters == parameters
    assert footprint.multiply_adds == multiply_adds


def test_bytes_are_those_of_the_float32_file_unless_given(tmp_path):
    policy = frames_policy()
    save_policy(policy, tmp_path / "student.safetensors")
    size = (tmp_path / "student.safetensors").stat().st_size
    assert measure_footprint(policy, bytes_on_disk=None).bytes == size
    assert measure_footprint(policy, bytes_on_disk=1234).bytes == 1234


def test_latency_is_measured_on_one_thread_and_the_number_of_threads_comes_back(monkeypatch):
    policy = vector_policy(has_value=False)
    seen = []
    forward = type(policy.network).forward

    def watched(self, observation, **scale):
        seen.append((torch.get_num_threads(), tuple(observation.shape)))
        return forward(self, observation, **scale)

    monkeypatch.setattr(type(policy.network), "forward", watched)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        footprint = measure_footprint(policy, bytes_on_disk=None)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert footprint.latency_ms > 0
    assert len(seen) > 20
    # The first forward is the one that counts operations.
    assert set(seen[1:]) == {(1, (1, 4))}


def test_threads_come_back_when_a_forward_fails(monkeypatch):
    policy = vector_policy(has_value=False)
    forward = type(policy.network).forward

    def failing(self, observation, **scale):
        if torch.is_inference_mode_enabled():
            raise RuntimeError("no forward today")
        return forward(self, observation, **scale)

    monkeypatch.setattr(type(policy.network), "forward", failing)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with pytest.raises(RuntimeError, match="no forward today"):
            measure_footprint(policy, bytes_on_disk=None)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_a_policy_in_training_and_in_bfloat16_is_measured_in_float32_and_left_alone():
    policy = frames_policy()
    reference = measure_footprint(policy, bytes_on_disk=None)
    policy.network.to(torch.bfloat16).train()
    footprint = measure_footprint(policy, bytes_on_disk=None)
    assert (footprint.bytes, footprint.multiply_adds) == (reference.bytes, reference.multiply_adds)
    assert policy.network.training
    assert {parameter.dtype for parameter in policy.network.parameters()} == {torch.bfloat16}
