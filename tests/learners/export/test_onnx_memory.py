"""Exported policies with a memory: it goes in with an observation and comes out again."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from common.errors import PolicyFileError
from common.policies.inference import InferencePolicy
from common.policies.policy import Policy, new_policy
from common.policies.spec import PolicySpec
from learners.export import export_onnx, verify_onnx

TORSOS = {
    "vectors": {"name": "mlp", "hidden": (16,)},
    "frames": {"name": "nature_cnn", "channels": (4,), "kernels": (4,), "strides": (2,)},
}
OBSERVATIONS = {
    "vectors": {"shape": (4,), "dtype": "float32", "scale": 0.5},
    "frames": {"shape": (2, 12, 12), "dtype": "uint8", "scale": 1 / 255},
}


def policy_of(kind: str, *, has_value: bool) -> Policy:
    network = {"name": "lstm", "hidden": 8, "torso": TORSOS[kind]}
    spec = {"name": kind, "network": network, "observation": OBSERVATIONS[kind]}
    return new_policy(
        PolicySpec.model_validate(spec | {"num_actions": 3, "has_value": has_value}), seed=0
    )


def observations_for(policy: Policy, *shape: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    seen = rng.uniform(0, 255, size=(*shape, *policy.spec.observation.shape))
    return seen.astype(policy.spec.observation.dtype)


@pytest.mark.parametrize("kind", TORSOS)
@pytest.mark.parametrize("has_value", [False, True])
def test_an_exported_memory_is_that_of_the_policy(kind: str, has_value: bool, tmp_path: Path):
    policy, path = policy_of(kind, has_value=has_value), tmp_path / "student.onnx"
    export_onnx(policy, path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    plain, seen = InferencePolicy(policy), observations_for(policy, 6, 3)
    memory = other = np.zeros((3, 2, 8), np.float32)
    for observations in seen:
        names = ["dist_inputs", "next_memory"]
        given = {"observation": observations, "memory": memory}
        dist_inputs, memory = session.run(names, given)
        outputs, other = plain.remember(observations, other)
        np.testing.assert_allclose(dist_inputs, outputs.dist_inputs, atol=1e-5)
        np.testing.assert_allclose(memory, other, atol=1e-5)
    check = verify_onnx(path, policy, observations_for(policy, 600))
    assert check.greedy_agreement == 1.0
    assert check.max_abs_difference < 1e-4


def test_a_file_without_a_memory_is_not_taken_for_one_with(tmp_path: Path):
    forward = PolicySpec.model_validate(
        policy_of("vectors", has_value=False).spec.model_dump() | {"network": TORSOS["vectors"]}
    )
    export_onnx(new_policy(forward, seed=0), tmp_path / "forward.onnx")
    policy = policy_of("vectors", has_value=False)
    with pytest.raises(PolicyFileError, match="its inputs are"):
        verify_onnx(tmp_path / "forward.onnx", policy, observations_for(policy, 2))
