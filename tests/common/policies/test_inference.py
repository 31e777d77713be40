import numpy as np
import pytest
import torch

from common.policies.inference import InferencePolicy, lead_of_the_best
from common.policies.policy import Policy
from tests.builders import make_policy


def observations_for(policy: Policy, count: int = 16) -> np.ndarray:
    rng = np.random.default_rng(0)
    shape = (count, *policy.spec.observation.shape)
    if policy.spec.observation.dtype == "uint8":
        return rng.integers(256, size=shape, dtype=np.uint8)
    return rng.normal(size=shape).astype(np.float32)


def explicitly_scaled(policy: Policy, observations: np.ndarray):
    with torch.no_grad():
        scaled = torch.from_numpy(observations).float() * policy.spec.observation.scale
        output = policy.network(scaled)
    return output.dist_inputs.numpy(), None if output.value is None else output.value.numpy()


def policies() -> dict[str, Policy]:
    scaled = {"shape": (5,), "dtype": "float32", "scale": 0.1}
    towers = {"name": "mlp", "hidden": (8,), "value_hidden": (6,)}
    linear = {"name": "mlp", "hidden": (8,), "value_hidden": ()}
    return {
        "frames": make_policy("frames"),
        "frames with value": make_policy("frames", has_value=True),
        "vectors": make_policy(observation=scaled, has_value=True),
        "value tower": make_policy(observation=scaled, network=towers, has_value=True),
        "linear value": make_policy(observation=scaled, network=linear, has_value=True),
    }


@pytest.mark.parametrize("name", list(policies()))
def test_the_folded_scale_equals_the_explicit_scale(name):
    policy = policies()[name]
    observations = observations_for(policy)
    logits, value = explicitly_scaled(policy, observations)
    outputs = InferencePolicy(policy)(observations)
    np.testing.assert_allclose(outputs.dist_inputs, logits, atol=1e-5)
    assert (outputs.value is None) == (value is None)
    if value is not None:
        np.testing.assert_allclose(outputs.value, value, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_gpu_says_what_the_cpu_says(precision):
    policy = make_policy("frames", has_value=True)
    observations = observations_for(policy)
    wanted = InferencePolicy(policy)(observations)
    found = InferencePolicy(policy, precision=precision, device=torch.device("cuda"))(observations)
    np.testing.assert_allclose(found.dist_inputs, wanted.dist_inputs, atol=0.02)
    np.testing.assert_allclose(found.value, wanted.value, atol=0.02)


@pytest.mark.parametrize(("precision", "error"), [("bfloat16", 0.02), ("float16", 0.003)])
@pytest.mark.parametrize("name", list(policies()))
def test_types_of_16_bits_are_close_to_float32(name, precision, error):
    policy = policies()[name]
    observations = observations_for(policy)
    single = InferencePolicy(policy)(observations)
    half = InferencePolicy(policy, precision=precision)(observations)
    assert half.dist_inputs.dtype == np.float32
    np.testing.assert_allclose(half.dist_inputs, single.dist_inputs, atol=error)
    assert (half.dist_inputs != single.dist_inputs).any()


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_new_weights_replace_the_old_ones_and_are_scaled_once(precision):
    old, new = make_policy("frames", seed=0), make_policy("frames", seed=1)
    acting = InferencePolicy(old, precision=precision)
    wanted = InferencePolicy(new, precision=precision)
    observations = observations_for(old)
    for _ in range(3):
        acting.load(new.network.state_dict())
    np.testing.assert_array_equal(
        acting(observations).dist_inputs, wanted(observations).dist_inputs
    )


def test_acting_is_a_copy_that_leaves_the_policy_to_its_trainer():
    policy = make_policy("frames")
    observations = observations_for(policy)
    acting = InferencePolicy(policy, precision="bfloat16")
    before = acting(observations).dist_inputs
    with torch.no_grad():
        for parameter in policy.network.parameters():
            assert parameter.requires_grad
            assert parameter.dtype == torch.float32
            parameter.add_(1.0)
    np.testing.assert_array_equal(acting(observations).dist_inputs, before)


@pytest.mark.parametrize("layout", ["channels_last", "blocks"])
def test_the_layout_of_frames_changes_nothing(layout):
    policy = make_policy("frames", has_value=True)
    observations = observations_for(policy)
    wanted = InferencePolicy(policy)(observations)
    found = InferencePolicy(policy, layout=layout)(observations)
    np.testing.assert_allclose(found.dist_inputs, wanted.dist_inputs, atol=1e-5)
    np.testing.assert_allclose(found.value, wanted.value, atol=1e-5)


def test_rows_in_doubt_are_those_of_float32():
    policy = make_policy("frames", has_value=True)
    observations = observations_for(policy, 64)
    exact = InferencePolicy(policy)(observations)
    rough = InferencePolicy(policy, precision="bfloat16")(observations)
    limit = float(np.median(lead_of_the_best(rough.dist_inputs)))
    found = InferencePolicy(policy, precision="bfloat16", refine_below=limit)(observations)
    close = lead_of_the_best(rough.dist_inputs) < limit
    assert 0 < close.sum() < 64
    np.testing.assert_allclose(found.dist_inputs[close], exact.dist_inputs[close], atol=1e-6)
    np.testing.assert_allclose(found.value[close], exact.value[close], atol=1e-6)
    np.testing.assert_array_equal(found.dist_inputs[~close], rough.dist_inputs[~close])


def test_policies_that_share_inputs_cast_an_array_once():
    first, second = make_policy("frames", seed=1), make_policy("frames", seed=2)
    acting = InferencePolicy(first, layout="blocks")
    inputs = acting.shared_inputs()
    beside = InferencePolicy(second, layout="blocks", inputs=inputs)
    one, other = observations_for(first), observations_for(first)[::-1].copy()
    for observations in (one, other, one):
        wanted = InferencePolicy(second)(observations).dist_inputs
        acting(observations)
        cast = inputs(observations)
        np.testing.assert_allclose(beside(observations).dist_inputs, wanted, atol=1e-5)
        assert inputs(observations) is cast


def test_inputs_of_another_form_are_not_shared():
    policy = make_policy("frames")
    inputs = InferencePolicy(policy, precision="bfloat16").shared_inputs()
    observations = observations_for(policy)
    found = InferencePolicy(policy, inputs=inputs)(observations).dist_inputs
    np.testing.assert_array_equal(found, InferencePolicy(policy)(observations).dist_inputs)


def test_the_lead_is_between_the_best_two():
    outputs = np.array([[1.0, 4.0, 2.5], [-1.0, -1.0, -3.0]], np.float32)
    np.testing.assert_allclose(lead_of_the_best(outputs), [1.5, 0.0])
