import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from common.errors import MismatchError, PolicyFileError, StorageError
from common.policies.inference import InferencePolicy
from common.policies.policy import (
    Policy,
    load_policy,
    new_policy,
    policy_from_bytes,
    policy_from_state,
    policy_to_bytes,
    save_policy,
)
from tests.builders import make_policy, make_spec

KINDS = ["frames", "vectors"]
FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn]


def tensors(policy: Policy) -> dict[str, torch.Tensor]:
    return policy.network.state_dict()


def assert_same(found: Policy, wanted: Policy, dtype: torch.dtype = torch.float32) -> None:
    assert found.spec == wanted.spec
    assert tensors(found).keys() == tensors(wanted).keys()
    for name, tensor in tensors(wanted).items():
        assert tensors(found)[name].dtype == torch.float32
        assert torch.equal(tensors(found)[name], tensor.to(dtype).float()), name


def refusal(path: Path) -> str:
    with pytest.raises(PolicyFileError) as caught:
        load_policy(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_policy_comes_back_from_disk(tmp_path: Path, kind, dtype):
    policy = make_policy(kind, has_value=True)
    path = tmp_path / "new" / "folder" / "student.v1.safetensors"
    save_policy(policy, path, dtype=dtype)
    assert {tensor.dtype for tensor in load_file(path).values()} == {dtype}
    assert_same(load_policy(path), policy, dtype)


def test_nothing_but_the_two_files_is_left(tmp_path: Path):
    for seed in (0, 1):
        save_policy(make_policy(seed=seed), tmp_path / "student.safetensors")
    assert sorted(os.listdir(tmp_path)) == ["student.json", "student.safetensors"]
    assert_same(load_policy(tmp_path / "student.safetensors"), make_policy(seed=1))


@pytest.mark.parametrize("file", ["student.safetensors", "student.json"])
def test_a_full_disk_leaves_the_former_file_and_no_other(tmp_path: Path, file: str):
    path = tmp_path / "student.safetensors"
    save_policy(make_policy(seed=0), path)
    former = (tmp_path / file).read_bytes()
    (tmp_path / f"{file}.partial").symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"cannot be written .*No space left"):
        save_policy(make_policy(seed=1), path)
    assert (tmp_path / file).read_bytes() == former
    assert sorted(os.listdir(tmp_path)) == ["student.json", "student.safetensors"]
    load_policy(path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_policy_comes_back_from_bytes(kind):
    policy = make_policy(kind, has_value=True)
    assert_same(policy_from_bytes(*policy_to_bytes(policy)), policy)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_weights_of_any_float_type_become_float32(dtype):
    policy = make_policy()
    state = {name: tensor.to(dtype) for name, tensor in tensors(policy).items()}
    assert_same(policy_from_state(policy.spec, state, source="test"), policy, dtype)


@pytest.mark.parametrize("kind", KINDS)
def test_a_policy_from_a_state_computes_and_learns(kind):
    policy = make_policy(kind, has_value=True)
    rebuilt = policy_from_state(policy.spec, tensors(policy), source="test")
    observations = torch.rand(2, *policy.spec.observation.shape)
    found, wanted = rebuilt.network(observations), policy.network(observations)
    assert torch.equal(found.dist_inputs, wanted.dist_inputs)
    assert all(parameter.requires_grad for parameter in rebuilt.network.parameters())
    assert rebuilt.num_parameters == policy.num_parameters
    (found.dist_inputs.sum() + found.value.sum()).backward()
    assert all(parameter.grad is not None for parameter in rebuilt.network.parameters())


def test_a_policy_from_a_state_shares_no_memory_with_it():
    source = make_policy()
    rebuilt = policy_from_state(source.spec, tensors(source), source="test")
    with torch.no_grad():
        for parameter in rebuilt.network.parameters():
            parameter.zero_()
    assert_same(source, make_policy())


def test_reading_and_making_policies_leaves_torchs_random_state():
    policy = make_policy()
    before = torch.random.get_rng_state()
    policy_from_state(policy.spec, tensors(policy), source="test")
    new_policy(policy.spec, seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_fresh_weights_follow_from_the_seed():
    assert_same(make_policy(seed=4), make_policy(seed=4))
    differing = zip(
        tensors(make_policy(seed=4)).values(), tensors(make_policy(seed=5)).values(), strict=True
    )
    assert any(not torch.equal(a, b) for a, b in differing)


@pytest.mark.parametrize(
    "network",
    [
        {"name": "mlp", "hidden": (10**6, 10**7)},
        {"name": "mlp", "hidden": (10**12, 10**12)},
        {"name": "mlp", "hidden": (10**30, 2)},
    ],
    ids=["40 TB", "more than 64 bits of bytes", "more than 64 bits"],
)
def test_an_absurd_size_costs_no_memory(network):
    state = tensors(make_policy())
    with pytest.raises(PolicyFileError) as caught:
        policy_from_state(make_spec(network=network), state, source="foreign")
    assert str(caught.value).startswith("foreign: ")
    assert "\n" not in str(caught.value)


def test_an_architecture_that_cannot_take_the_observations_is_refused():
    spec = make_spec(observation={"shape": (4, 84, 84), "dtype": "uint8"})
    with pytest.raises(MismatchError, match="mlp takes vectors"):
        policy_from_state(spec, {}, source="test")


def changed(**changes: torch.Tensor | None) -> dict[str, torch.Tensor]:
    state = {**tensors(make_policy()), **{k.replace("_", "."): v for k, v in changes.items()}}
    return {name: tensor for name, tensor in state.items() if tensor is not None}


PACKED = torch.zeros(3, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (changed(head_bias=None), "tensor head.bias is missing"),
        (changed(value_bias=torch.zeros(1)), "tensor value.bias has no place"),
        (changed(head_bias=torch.zeros(4)), "head.bias has shape (4,), not (3,)"),
        (changed(head_bias=torch.tensor([0.0, torch.nan, 0.0])), "head.bias holds NaN or inf"),
        (changed(head_bias=torch.tensor([0.0, -torch.inf, 0.0])), "head.bias holds NaN or inf"),
        (changed(head_bias=torch.full((3,), 1e300, dtype=torch.float64)), "head.bias holds NaN or"),
        (
            changed(head_bias=torch.full((3,), torch.nan).to(torch.float8_e4m3fn)),
            "head.bias holds NaN or inf",
        ),
        (changed(head_bias=torch.zeros(3, dtype=torch.int64)), "head.bias is of torch.int64"),
        (changed(head_bias=torch.zeros(3, dtype=torch.complex64)), "is of torch.complex64"),
        (changed(head_bias=PACKED), "head.bias is of torch.float4_e2m1fn_x2"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_by_name(state, reason):
    with pytest.raises(PolicyFileError) as caught:
        policy_from_state(make_spec(), state, source="test")
    assert str(caught.value).startswith("test: ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def saved(tmp_path: Path) -> Path:
    path = tmp_path / "student.safetensors"
    save_policy(make_policy(), path)
    return path


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe\x00", b'{"name": "a"}', b"3"])
def test_json_that_is_no_specification_is_refused(tmp_path: Path, content: bytes):
    path = saved(tmp_path)
    path.with_suffix(".json").write_bytes(content)
    assert refusal(path).startswith(f"{path.with_suffix('.json')}: not a policy spec (")


def test_a_missing_specification_is_told(tmp_path: Path):
    path = saved(tmp_path)
    path.with_suffix(".json").unlink()
    assert "student.json: missing; a policy is student.safetensors and this" in refusal(path)


def test_a_specification_that_is_a_directory_is_told(tmp_path: Path):
    path = saved(tmp_path)
    path.with_suffix(".json").unlink()
    path.with_suffix(".json").mkdir()
    assert "student.json: cannot be read (Is a directory)" in refusal(path)


def test_a_specification_that_cannot_be_read_is_told(tmp_path: Path):
    saved(tmp_path)
    assert "cannot be read (Not a directory)" in refusal(
        tmp_path / "student.json" / "a.safetensors"
    )


def test_missing_weights_are_told(tmp_path: Path):
    path = saved(tmp_path)
    path.unlink()
    assert "no such file; give the path of a policy file" in refusal(path)


def test_weights_that_are_a_directory_are_told(tmp_path: Path):
    path = saved(tmp_path)
    path.unlink()
    path.mkdir()
    assert "student.safetensors: cannot be read (Is a directory)" in refusal(path)


def test_truncated_and_foreign_weights_are_told(tmp_path: Path):
    path = saved(tmp_path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    lengths = [0, 1, 8, 100, *rng.integers(len(whole), size=20), len(whole) - 1]
    for content in [*(whole[:length] for length in lengths), b"\x80\x04pickle", rng.bytes(500)]:
        path.write_bytes(content)
        assert "damaged or not a safetensors file" in refusal(path)


def test_weights_of_another_network_are_told(tmp_path: Path):
    path = saved(tmp_path)
    save_file({"other": torch.zeros(3)}, path)
    assert "is missing for" in refusal(path)


NORMALIZER = {"mean": (1.0, 0.0, -2.0, 3.0, 1e4), "std": (0.5, 2.0, 1.0, 9.0, 0.01), "clip": 4.0}


def normalising() -> Policy:
    observation = {"shape": (5,), "dtype": "float32", "normalizer": NORMALIZER}
    return make_policy(seed=3, observation=observation)


def test_a_normalizer_is_applied_before_the_network(tmp_path):
    policy, plain = normalising(), make_policy(seed=3)
    observations = np.random.default_rng(0).normal(size=(64, 5)).astype(np.float32) * 5
    observations[:, 4] = 1e4 + np.linspace(-0.1, 0.1, 64)
    normalised = (observations.astype(np.float64) - NORMALIZER["mean"]) / NORMALIZER["std"]
    normalised = np.clip(normalised, -4.0, 4.0).astype(np.float32)
    wanted = InferencePolicy(plain)(normalised).dist_inputs
    save_policy(policy, tmp_path / "policy.safetensors")
    for same in (
        policy,
        load_policy(tmp_path / "policy.safetensors"),
        policy_from_bytes(*policy_to_bytes(policy)),
    ):
        found = InferencePolicy(same)(observations).dist_inputs
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    assert (np.abs(normalised) == 4.0).any()


def test_a_normalizer_is_no_weight_and_is_never_rounded():
    policy = normalising()
    assert policy.network.state_dict().keys() == make_policy().network.state_dict().keys()
    policy.network.set_precision(torch.bfloat16)
    normalizer = policy.network.normalizer
    assert normalizer is not None
    torch.testing.assert_close(normalizer.mean, torch.tensor(NORMALIZER["mean"]), rtol=0, atol=0)
    assert policy.network(torch.zeros(2, 5, dtype=torch.bfloat16)).dist_inputs.isfinite().all()
