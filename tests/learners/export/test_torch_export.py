"""Students as `.pt2` archives: what torch makes of them by itself, and Stillhouse as teachers."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from common.errors import PolicyFileError
from common.policies.inference import InferencePolicy
from common.policies.spec import ActingSpec, ObservationSpec
from common.storage import locate
from common.teachers import load_teacher
from learners.export import compare, export_torch
from learners.export.torch_export import run_torch
from tests.builders import make_policy
from tests.learners.export.test_onnx_memory import observations_for
from tests.learners.export.test_onnx_memory import policy_of as memory_policy


@pytest.mark.parametrize("batch", [1, 7])
def test_torch_runs_the_file_by_itself_at_any_batch_size(batch: int, tmp_path: Path) -> None:
    policy = make_policy("frames", has_value=True)
    policy.network.to(torch.bfloat16)
    export_torch(policy, tmp_path / "student.pt2")
    assert {weight.dtype for weight in policy.network.parameters()} == {torch.bfloat16}
    program = torch.export.load(tmp_path / "student.pt2").module()
    shape = (batch, *policy.spec.observation.shape)
    frames = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
    said, wanted = program(torch.from_numpy(frames)), InferencePolicy(policy)(frames)
    assert list(said) == ["dist_inputs", "action", "value"]
    np.testing.assert_allclose(said["dist_inputs"], wanted.dist_inputs, atol=1e-5)
    np.testing.assert_allclose(said["value"], wanted.value, atol=1e-5)
    assert said["action"].tolist() == wanted.dist_inputs.argmax(-1).tolist()
    assert not any(output.requires_grad for output in said.values())


@pytest.mark.parametrize("kind", ["vectors", "frames"])
def test_a_memory_goes_in_and_comes_out(kind: str, tmp_path: Path) -> None:
    policy = memory_policy(kind, has_value=False)
    export_torch(policy, tmp_path / "student.pt2")
    run = run_torch(locate(tmp_path / "student.pt2"), policy)
    check = compare(run, policy, observations_for(policy, 600))
    assert check.greedy_agreement == 1.0
    assert check.max_abs_difference < 1e-4


def test_the_file_is_a_teacher_that_tells_all_by_itself(tmp_path: Path) -> None:
    original = make_policy("frames", dist="q_values", acting=ActingSpec(epsilon=0.05))
    export_torch(original, tmp_path / "student.pt2")
    with pytest.raises(PolicyFileError, match=r"set teacher\.trust = true"):
        load_teacher(tmp_path / "student.pt2")
    policy = load_teacher(tmp_path / "student.pt2", trust=True)
    tree = policy.spec.model_dump(exclude={"network", "observation", "provenance"})
    assert tree == original.spec.model_dump(exclude={"network", "observation", "provenance"})
    shape = original.spec.observation.shape
    assert policy.spec.observation == ObservationSpec(shape=shape, dtype="uint8")
    assert policy.num_parameters == original.num_parameters


def test_the_archive_holds_no_local_paths(tmp_path: Path) -> None:
    export_torch(make_policy(), tmp_path / "student.pt2")
    with zipfile.ZipFile(tmp_path / "student.pt2") as archive:
        content = b"".join(archive.read(name) for name in archive.namelist())
    assert b"dist_inputs" in content
    assert str(Path(__file__).parents[3]).encode() not in content
