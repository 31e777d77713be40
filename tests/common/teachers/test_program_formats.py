import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto

from common.errors import ConfigError, PolicyFileError
from common.policies.inference import InferencePolicy
from common.policies.spec import ActingSpec, ObservationSpec
from common.teachers import load_teacher
from learners.export import export_onnx
from tests.builders import make_policy
from tests.programs import (
    SIDECAR,
    SUFFIXES,
    Linear,
    Logits,
    expected,
    onnx_bytes,
    torch_export_bytes,
    torchscript_bytes,
    write_program,
)


@pytest.fixture
def observations() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)


def write(folder: Path, content: bytes, sidecar: object = None, suffix: str = ".onnx") -> Path:
    path = folder / f"teacher{suffix}"
    path.write_bytes(content)
    if sidecar is not None:
        path.with_suffix(".json").write_text(json.dumps(sidecar))
    return path


def refusal(path: Path, error: type[Exception] = PolicyFileError) -> str:
    with pytest.raises(error) as caught:
        load_teacher(path, trust=True)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path.with_suffix("")) in message
    return message


def sidecar(**changes: Any) -> dict[str, Any]:
    return SIDECAR | changes


@pytest.mark.parametrize("runtime", SUFFIXES)
def test_a_program_is_recognised_and_answers(
    runtime: str, tmp_path: Path, observations: np.ndarray
) -> None:
    policy = load_teacher(write_program(tmp_path, runtime), trust=True)
    assert policy.spec.provenance == {"format": runtime}
    assert policy.spec.name == "teacher"
    assert (policy.spec.num_actions, policy.spec.dist) == (2, "logits")
    assert policy.spec.observation == ObservationSpec(shape=(4,), dtype="float32")
    outputs = InferencePolicy(policy)(observations)
    wanted = expected(observations)
    np.testing.assert_allclose(outputs.dist_inputs, wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(outputs.value, observations[:, 0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("runtime", ["torchscript", "torch_export"])
def test_what_can_run_code_wants_trust(runtime: str, tmp_path: Path) -> None:
    with pytest.raises(PolicyFileError, match=r"set teacher\.trust = true"):
        load_teacher(write_program(tmp_path, runtime))


def test_a_file_that_stillhouse_exported_tells_all_by_itself(tmp_path: Path) -> None:
    original = make_policy("frames", dist="q_values", acting=ActingSpec(epsilon=0.05))
    with torch.no_grad():
        for parameter in original.network.parameters():  # biases of 0 are left out of the file
            parameter.normal_(0, 0.1)
    export_onnx(original, tmp_path / "student.onnx")
    (tmp_path / "student.json").write_text("the specification of student.safetensors")
    policy = load_teacher(tmp_path / "student.onnx")
    tree = policy.spec.model_dump(exclude={"network", "observation", "provenance"})
    assert tree == original.spec.model_dump(exclude={"network", "observation", "provenance"})
    shape = original.spec.observation.shape
    assert policy.spec.observation == ObservationSpec(shape=shape, dtype="uint8")
    assert policy.num_parameters == original.num_parameters
    frames = np.random.default_rng(0).integers(0, 256, (5, *shape), dtype=np.uint8)
    found, wanted = (InferencePolicy(each)(frames).dist_inputs for each in (policy, original))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


BOX = {"low": (-2.0,), "high": (2.0,)}


@pytest.mark.parametrize("dist", ["gaussian", "squashed_gaussian", "deterministic"])
def test_so_does_one_for_box_actions(dist: str, tmp_path: Path, observations: np.ndarray) -> None:
    normalizer = {"mean": (1.0,) * 4, "std": (2.0,) * 4, "clip": 10.0}
    observation = {"shape": (4,), "dtype": "float32", "normalizer": normalizer}
    original = make_policy(
        num_actions=None, action_box=BOX, dist=dist, observation=observation, has_value=True
    )
    export_onnx(original, tmp_path / "student.onnx")
    policy = load_teacher(tmp_path / "student.onnx")
    assert (policy.spec.dist, policy.spec.has_value) == (dist, True)
    assert policy.spec.action_box == original.spec.action_box
    assert policy.spec.num_dist_inputs == original.spec.num_dist_inputs
    found, wanted = (InferencePolicy(each)(observations) for each in (policy, original))
    np.testing.assert_allclose(found.dist_inputs, wanted.dist_inputs, rtol=1e-4, atol=1e-4)


def test_outputs_are_told_by_their_names_where_these_are_usual(tmp_path: Path) -> None:
    spec = load_teacher(write(tmp_path, onnx_bytes(logits="q_values", value=None))).spec
    assert (spec.dist, spec.has_value) == ("q_values", False)
    assert load_teacher(write(tmp_path, onnx_bytes())).spec.has_value


def test_what_the_json_says_stands_in_the_spec(tmp_path: Path) -> None:
    told = {
        "name": "cart",
        "dist": "q_values",
        "num_actions": 2,
        "action_meanings": ["LEFT", "RIGHT"],
        "acting": {"epsilon": 0.1},
        "environment": {"id": "CartPole-v1"},
        "provenance": {"licence": "MIT"},
    }
    spec = load_teacher(write(tmp_path, onnx_bytes(), told)).spec
    assert (spec.name, spec.dist, spec.action_meanings) == ("cart", "q_values", ("LEFT", "RIGHT"))
    assert spec.acting == ActingSpec(epsilon=0.1)
    assert spec.environment == {"id": "CartPole-v1"}
    assert spec.provenance == {"format": "onnx", "licence": "MIT"}


def test_bytes_need_no_scale(tmp_path: Path) -> None:
    spec = load_teacher(write(tmp_path, onnx_bytes(input_type=TensorProto.UINT8))).spec
    assert spec.observation == ObservationSpec(shape=(4,), dtype="uint8")


def test_a_program_of_a_fixed_size(tmp_path: Path, observations: np.ndarray) -> None:
    for content, suffix, told in (
        (onnx_bytes(batch=1), ".onnx", None),
        (torch_export_bytes(Logits(), batch=3), ".pt2", {"dist": "logits"}),
    ):
        policy = load_teacher(write(tmp_path, content, told, suffix), trust=True)
        found = InferencePolicy(policy)(observations).dist_inputs
        np.testing.assert_allclose(found, expected(observations), rtol=1e-4, atol=1e-4)


class Frames(torch.nn.Module):
    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return observation.flatten(1)[:, :3]


FRAMES = torchscript_bytes(Frames())


@pytest.mark.parametrize(
    ("content", "told", "complaint"),
    [
        (onnx_bytes(logits="out"), None, "does not tell dist"),
        (onnx_bytes(value="q_values"), {"num_actions": 3}, "says num_actions = 3"),
        (
            onnx_bytes(),
            {"dist": "gaussian", "action_box": {"low": [-1, -1], "high": [1, 1]}},
            "says dist = 'gaussian' of vectors of 2 within -1 to 1",
        ),
        (onnx_bytes(), {"observation": {"shape": [5]}}, "takes observations of shape (4,)"),
        (onnx_bytes(), sidecar(outputs={"dist_inputs": "pi"}), "no output 'pi' of shape [B, A]"),
        (onnx_bytes(), {"outputs": {"value": "logits"}}, "no output 'logits' of shape [B] or"),
        (onnx_bytes(input_type=TensorProto.DOUBLE), None, "of tensor(double)"),
        (
            onnx_bytes(input_type=TensorProto.UINT8),
            {"observation": {"scale": 0.5}},
            "takes bytes, and",
        ),
        (onnx_bytes(external=True), None, "its weights lie in other files"),
        (FRAMES, {"dist": "logits"}, "does not tell observation.shape"),
        (
            FRAMES,
            {"dist": "logits", "observation": {"shape": [2, 2]}},
            "does not tell observation.dtype",
        ),
        (
            FRAMES,
            {"dist": "logits", "observation": {"shape": [2, 2], "dtype": "uint8"}},
            "does not tell observation.scale",
        ),
        (torchscript_bytes(Linear()), sidecar(observation={"shape": [7]}), "fails over 2 obser"),
        (torchscript_bytes(Logits()), {"observation": {"shape": [4]}}, "does not tell dist"),
    ],
)
def test_what_is_not_told_or_not_so_is_refused(
    tmp_path: Path, content: bytes, told: object, complaint: str
) -> None:
    assert complaint in refusal(write(tmp_path, content, told))


def test_two_outputs_that_could_be_it(tmp_path: Path) -> None:
    class Twins(Linear):
        def forward(self, observation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.layer(observation), observation

    path = write(tmp_path, torch_export_bytes(Twins()), {"dist": "logits"}, suffix=".pt2")
    assert "does not tell outputs.dist_inputs (one of 0, 1)" in refusal(path)


def test_a_json_that_is_wrong(tmp_path: Path) -> None:
    path = write(tmp_path, onnx_bytes(), {"dsit": "logits"})
    assert "dsit: unknown key; did you mean dist?" in refusal(path, ConfigError)
    path.with_suffix(".json").write_text("dist = 'logits'")
    assert "not JSON" in refusal(path)
    path.with_suffix(".json").write_text("[]")
    assert "a JSON list, not an object" in refusal(path)
