import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from common.errors import PolicyFileError
from common.networks.external import ExternalNetwork
from common.policies.inference import InferencePolicy
from common.policies.policy import (
    Policy,
    load_policy,
    policy_from_bytes,
    policy_from_state,
    policy_to_bytes,
    save_policy,
)
from common.policies.spec import PolicySpec
from tests.programs import PROGRAM_BYTES, expected, onnx_bytes


def make_policy(runtime: str = "onnx", content: bytes | None = None, **network: object) -> Policy:
    content = PROGRAM_BYTES[runtime]() if content is None else content
    by_place = {"dist_inputs": "0", "value": "1"}
    by_name = {"dist_inputs": "logits", "value": "value"}
    spec = PolicySpec.model_validate(
        {
            "name": "program",
            "network": {
                "name": "external",
                "runtime": runtime,
                "num_bytes": len(content),
                "num_parameters": 12,
            }
            | (by_name if runtime == "onnx" else by_place)
            | network,
            "observation": {"shape": (4,), "dtype": "float32"},
            "num_actions": 2,
            "has_value": network.get("value", "") is not None,
        }
    )
    state = {"program": torch.frombuffer(bytearray(content), dtype=torch.uint8)}
    return policy_from_state(spec, state, source="test")


@pytest.fixture
def observations() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)


def assert_answers(policy: Policy, observations: np.ndarray, scale: float = 1.0) -> None:
    outputs = InferencePolicy(policy)(observations)
    wanted = expected(observations, scale)
    np.testing.assert_allclose(outputs.dist_inputs, wanted, rtol=1e-4, atol=1e-4)
    assert outputs.dist_inputs.dtype == np.float32
    if policy.spec.has_value:
        first = observations[:, 0] * scale
        np.testing.assert_allclose(outputs.value, first, rtol=1e-4, atol=1e-4)
    else:
        assert outputs.value is None


@pytest.mark.parametrize("runtime", PROGRAM_BYTES)
def test_a_program_is_a_policy_here_elsewhere_and_on_disk(
    runtime: str, observations: np.ndarray, tmp_path: Path
) -> None:
    policy = make_policy(runtime)
    assert_answers(policy, observations)
    assert_answers(policy_from_bytes(*policy_to_bytes(policy)), observations)
    save_policy(policy, tmp_path / "teacher.safetensors")
    assert_answers(load_policy(tmp_path / "teacher.safetensors", trust=True), observations)


@pytest.mark.parametrize("runtime", [name for name in PROGRAM_BYTES if name != "onnx"])
def test_a_program_in_a_policy_file_wants_trust_too(runtime: str, tmp_path: Path) -> None:
    save_policy(make_policy(runtime), tmp_path / "teacher.safetensors")
    with pytest.raises(PolicyFileError, match=r"set teacher\.trust = true"):
        load_policy(tmp_path / "teacher.safetensors")


def test_bytes_are_scaled_on_their_way_in() -> None:
    tree = make_policy(value=None).spec.model_dump()
    tree["observation"] = {"shape": (4,), "dtype": "uint8", "scale": 0.5}
    policy = Policy(PolicySpec.model_validate(tree), make_policy(value=None).network)
    frames = np.random.default_rng(1).integers(0, 256, (5, 4), dtype=np.uint8)
    assert_answers(policy, frames, 0.5)
    assert_answers(policy, frames, 0.5)


@pytest.mark.parametrize("rows", [1, 3, 4, 7])
def test_a_program_of_a_fixed_size_answers_any_number(rows: int, observations: np.ndarray) -> None:
    policy = make_policy(content=onnx_bytes(batch=3), batch_size=3)
    assert_answers(policy, observations[:rows])


def test_a_value_that_nobody_names_is_not_there(observations: np.ndarray) -> None:
    assert_answers(make_policy(value=None), observations)


def test_a_copy_has_a_program_of_its_own(observations: np.ndarray) -> None:
    policy = make_policy()
    policy.network(torch.from_numpy(observations))
    copied = copy.deepcopy(policy.network)
    with torch.no_grad():
        policy.network.state_dict()["program"].zero_()
    assert_answers(Policy(policy.spec, copied), observations)


def test_nothing_of_a_program_is_rounded_or_moved(observations: np.ndarray) -> None:
    network = make_policy().network
    assert isinstance(network, ExternalNetwork)
    assert (network.layouts(), network.precisions()) == (("contiguous",), ("float32",))
    assert network.num_parameters == 12
    network.set_precision(torch.bfloat16)
    assert network.state_dict()["program"].dtype == torch.uint8


def test_other_bytes_than_told_are_refused() -> None:
    policy = make_policy()
    shorter = {"program": policy.network.state_dict()["program"][:-1]}
    with pytest.raises(PolicyFileError, match="tensor program has shape"):
        policy_from_state(policy.spec, shorter, source="test")
    floats = {"program": policy.network.state_dict()["program"].float()}
    with pytest.raises(PolicyFileError, match=r"is of torch\.float32, not torch\.uint8"):
        policy_from_state(policy.spec, floats, source="test")


def test_value_head_and_output_go_together() -> None:
    tree = make_policy().spec.model_dump() | {"has_value": False}
    with pytest.raises(ValidationError, match=r"has_value = False, but network\.value = 'value'"):
        PolicySpec.model_validate(tree)


def test_a_damaged_program_is_one_line(observations: np.ndarray) -> None:
    policy = make_policy(content=b"not a program")
    with pytest.raises(PolicyFileError, match="damaged or not an ONNX file"):
        policy.network(torch.from_numpy(observations))
