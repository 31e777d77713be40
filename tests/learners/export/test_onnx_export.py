from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from common.errors import MismatchError, PolicyFileError, StorageError
from common.policies.actions import mean_actions
from common.policies.inference import InferencePolicy
from common.policies.policy import Policy, new_policy
from common.policies.spec import PolicySpec
from learners.export import export_onnx, verify_onnx
from learners.export.onnx_export import SPEC_METADATA_KEY
from tests.builders import make_policy

SPECS = {
    "frames": {
        "network": {"name": "nature_cnn", "size": "113k"},
        "observation": {"shape": (4, 84, 84), "dtype": "uint8", "scale": 1 / 255},
        "num_actions": 18,
        "dist": "q_values",
        "environment": {"id": "ALE/Pong-v5"},
    },
    "vectors": {
        "network": {"name": "mlp", "hidden": (16, 12)},
        "observation": {"shape": (4,), "dtype": "float32"},
        "num_actions": 3,
    },
    "vectors with value": {
        "network": {"name": "mlp", "activation": "tanh", "value_hidden": (8,)},
        "observation": {"shape": (4,), "dtype": "float32", "scale": 0.5},
        "num_actions": 2,
        "has_value": True,
    },
}


def policy_of(kind: str, *, seed: int = 0) -> Policy:
    return new_policy(PolicySpec.model_validate({"name": kind} | SPECS[kind]), seed=seed)


def observations_for(policy: Policy, count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    shape = (count, *policy.spec.observation.shape)
    if policy.spec.observation.dtype == "uint8":
        return rng.integers(256, size=shape, dtype=np.uint8)
    return rng.normal(size=shape).astype(np.float32)


def session_of(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module", params=list(SPECS))
def exported(request, tmp_path_factory) -> tuple[Policy, Path]:
    policy = policy_of(request.param)
    path = tmp_path_factory.mktemp("export") / "student.onnx"
    export_onnx(policy, path)
    return policy, path


def test_file_agrees_with_the_policy_on_random_observations(exported):
    policy, path = exported
    observations = observations_for(policy, 300)
    observations.flags.writeable = False
    check = verify_onnx(path, policy, observations)
    assert check.observations == 300
    assert check.greedy_agreement == 1.0
    assert 0 <= check.max_abs_difference < 1e-5


@pytest.mark.parametrize("batch", [1, 7])
def test_raw_observations_go_in_and_named_outputs_come_out_at_any_batch_size(exported, batch):
    policy, path = exported
    spec = policy.spec
    observations = observations_for(policy, batch)
    session = session_of(path)
    names = [output.name for output in session.get_outputs()]
    outputs = dict(zip(names, session.run(None, {"observation": observations}), strict=True))

    scaled = observations.astype(np.float32) * np.float32(spec.observation.scale)
    with torch.no_grad():
        wanted = policy.network(torch.from_numpy(scaled))
    assert names == ["dist_inputs", "action"] + ["value"] * spec.has_value
    np.testing.assert_allclose(outputs["dist_inputs"], wanted.dist_inputs.numpy(), atol=1e-5)
    assert outputs["action"].dtype == np.int64
    assert outputs["action"].tolist() == wanted.dist_inputs.argmax(1).tolist()
    if spec.has_value:
        np.testing.assert_allclose(outputs["value"], wanted.value.numpy(), atol=1e-5)


def test_metadata_holds_the_whole_specification(exported):
    policy, path = exported
    metadata = session_of(path).get_modelmeta().custom_metadata_map
    assert PolicySpec.model_validate_json(metadata[SPEC_METADATA_KEY]) == policy.spec


def test_the_model_is_one_file_without_local_paths(exported):
    _, path = exported
    assert [item.name for item in path.parent.iterdir()] == ["student.onnx"]
    content = path.read_bytes()
    assert str(Path.cwd()).encode() not in content
    assert b"stack_trace" not in content
    assert all(not item.external_data for item in onnx.load(path).graph.initializer)


def test_the_policy_is_left_as_it_was_and_its_float32_weights_are_exported(tmp_path):
    policy = policy_of("frames")
    policy.network.to(torch.bfloat16, memory_format=torch.channels_last).train()
    export_onnx(policy, tmp_path / "new" / "student.onnx")
    check = verify_onnx(tmp_path / "new" / "student.onnx", policy, observations_for(policy, 20))
    assert check.max_abs_difference < 1e-5
    assert policy.network.training
    assert {parameter.dtype for parameter in policy.network.parameters()} == {torch.bfloat16}


def test_a_failed_export_leaves_the_former_file_whole(tmp_path):
    path = tmp_path / "student.onnx"
    path.write_bytes(b"former")

    (tmp_path / "student.onnx.partial").symlink_to("/dev/full")
    with pytest.raises(StorageError, match="No space left on device"):
        export_onnx(policy_of("vectors"), path)
    assert path.read_bytes() == b"former"
    assert list(tmp_path.iterdir()) == [path]


def test_exporting_again_replaces_the_file_and_another_policy_shows(tmp_path):
    path = tmp_path / "student.onnx"
    first, second = policy_of("vectors with value", seed=0), policy_of("vectors with value", seed=1)
    export_onnx(first, path)
    observations = observations_for(first, 500)
    check = verify_onnx(path, second, observations)
    assert check.greedy_agreement < 1.0
    assert check.max_abs_difference > 1e-3
    export_onnx(second, path)
    assert verify_onnx(path, second, observations).greedy_agreement == 1.0


def test_only_the_value_differing_shows_in_the_difference(tmp_path):
    policy = policy_of("vectors with value")
    export_onnx(policy, tmp_path / "student.onnx")
    with torch.no_grad():
        policy.network.value.bias += 2.0
    check = verify_onnx(tmp_path / "student.onnx", policy, observations_for(policy, 20))
    assert check.greedy_agreement == 1.0
    assert check.max_abs_difference == pytest.approx(2.0, abs=1e-5)


def test_nan_in_the_file_shows_in_the_difference(tmp_path):
    broken, whole = policy_of("vectors"), policy_of("vectors")
    with torch.no_grad():
        broken.network.head.bias[0] = float("nan")
    export_onnx(broken, tmp_path / "student.onnx")
    check = verify_onnx(tmp_path / "student.onnx", whole, observations_for(whole, 4))
    assert np.isnan(check.max_abs_difference)


@pytest.mark.parametrize("content", [None, b"", b"not an onnx file"])
def test_a_file_that_onnxruntime_cannot_load_is_a_policy_file_error(tmp_path, content):
    path = tmp_path / "student.onnx"
    if content is not None:
        path.write_bytes(content)
    policy = policy_of("vectors")
    with pytest.raises(PolicyFileError, match=r"student\.onnx: onnxruntime cannot load it"):
        verify_onnx(path, policy, observations_for(policy, 2))


def test_a_truncated_file_is_a_policy_file_error(exported, tmp_path):
    policy, whole = exported
    path = tmp_path / "student.onnx"
    path.write_bytes(whole.read_bytes()[:-200])
    with pytest.raises(PolicyFileError):
        verify_onnx(path, policy, observations_for(policy, 2))


@pytest.mark.parametrize(
    ("file_of", "message"), [("frames", "its inputs are"), ("vectors", "has no output value")]
)
def test_a_file_of_another_policy_is_a_policy_file_error(tmp_path, file_of, message):
    path = tmp_path / "student.onnx"
    export_onnx(policy_of(file_of), path)
    policy = policy_of("vectors with value")
    with pytest.raises(PolicyFileError, match=message):
        verify_onnx(path, policy, observations_for(policy, 2))


@pytest.mark.parametrize(
    "observations",
    [np.zeros((0, 4), np.float32), np.zeros((2, 5), np.float32), np.zeros((2, 4))],
    ids=["none", "other shape", "float64"],
)
def test_observations_that_do_not_fit_are_refused(tmp_path, observations):
    with pytest.raises(MismatchError, match=r"takes float32 \('M', 4\)"):
        verify_onnx(tmp_path / "student.onnx", policy_of("vectors"), observations)


BOX = {"low": (-2.0, 0.0), "high": (2.0, 10.0)}


@pytest.mark.parametrize("dist", ["gaussian", "squashed_gaussian", "deterministic"])
def test_actions_of_a_box_come_out_in_its_own_numbers_and_within_its_bounds(tmp_path, dist):
    normalizer = {"mean": (1.0, 0.0, 2.0), "std": (0.1, 2.0, 0.5), "clip": 3.0}
    spec = {
        "name": "box",
        "network": {"name": "mlp", "hidden": (16,)},
        "observation": {"shape": (3,), "dtype": "float32", "normalizer": normalizer},
        "action_box": BOX,
        "dist": dist,
    }
    policy = new_policy(PolicySpec.model_validate(spec), seed=0)
    path = tmp_path / "student.onnx"
    export_onnx(policy, path)
    observations = observations_for(policy, 300)
    check = verify_onnx(path, policy, observations)
    assert check.greedy_agreement is None
    assert check.action_error == pytest.approx(0.0, abs=1e-6)
    assert check.max_abs_difference < 1e-5
    outputs, actions = session_of(path).run(None, {"observation": observations})
    assert (actions.dtype, actions.shape) == (np.float32, (300, 2))
    wanted = policy.spec.action_box.from_units(mean_actions(dist, outputs))
    np.testing.assert_allclose(actions, wanted, rtol=1e-5, atol=1e-5)
    assert (actions >= [-2.0, 0.0]).all()
    assert (actions <= [2.0, 10.0]).all()
    normalised = np.clip((observations - [1.0, 0.0, 2.0]) / [0.1, 2.0, 0.5], -3.0, 3.0)
    policy.network.set_normalizer(None)
    with torch.no_grad():
        plain = policy.network(torch.from_numpy(normalised.astype(np.float32))).dist_inputs
    np.testing.assert_allclose(outputs, plain.numpy(), rtol=1e-4, atol=1e-4)


def test_another_policys_actions_of_a_box_show_in_the_error(tmp_path):
    kind = {"num_actions": None, "action_box": BOX, "dist": "deterministic"}
    policies = [make_policy(seed=seed, **kind) for seed in (0, 1)]
    export_onnx(policies[0], tmp_path / "student.onnx")
    observations = observations_for(policies[1], 300)
    check = verify_onnx(tmp_path / "student.onnx", policies[1], observations)
    outputs = [InferencePolicy(policy)(observations).dist_inputs for policy in policies]
    units = [mean_actions("deterministic", given) for given in outputs]
    assert check.action_error == pytest.approx(np.abs(units[0] - units[1]).mean(), rel=1e-4)
