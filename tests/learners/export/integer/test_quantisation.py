"""Whole numbers say what the floats say, as nearly as their bits allow."""

import numpy as np
import pytest
import torch

from common.errors import MismatchError
from common.policies.inference import InferencePolicy
from common.policies.policy import Policy, new_policy
from common.policies.spec import PolicySpec
from learners.export.integer.calibration import calibrate
from learners.export.integer.float_layers import float_network
from learners.export.integer.integer_network import IntegerNetwork
from learners.export.integer.quantisation import LARGEST_SUM, Widths, quantise
from tests.learners.export.programs import SPECS, extremes_for, observations_for, policy_of

DISCRETE = [name for name, spec in SPECS.items() if "num_actions" in spec]


SMALL, WIDE = Widths(8, 16), Widths(12, 16)


def quantised(policy: Policy, observations: np.ndarray, widths: Widths = SMALL) -> IntegerNetwork:
    floats = float_network(policy)
    return quantise(floats, calibrate(floats, observations), policy.spec, widths)


@pytest.mark.parametrize(
    ("kind", "widths", "tolerance"),
    [
        *((kind, SMALL, 0.03) for kind in DISCRETE),
        *((kind, WIDE, 0.002) for kind in DISCRETE),
        ("frames", Widths(8, 8), 0.03),
        ("bytes", Widths(8, 8), 0.03),
    ],
)
def test_scores_are_the_policys_less_their_mean(
    kind: str, widths: Widths, tolerance: float
) -> None:
    policy = policy_of(kind)
    observations = observations_for(policy, 300)
    scores = quantised(policy, observations, widths)(observations).scores
    wanted = InferencePolicy(policy)(observations).dist_inputs
    wanted -= wanted.mean(-1, keepdims=True)
    assert np.abs(scores - wanted).max() < tolerance * np.abs(wanted).max()


@pytest.mark.parametrize("widths", [SMALL, WIDE])
def test_no_sum_leaves_32_bits_in_the_worst_case(widths: Widths) -> None:
    for kind in SPECS:
        policy = policy_of(kind)
        network = quantised(policy, observations_for(policy, 100), widths)
        first = 255 if network.entry is None else network.entry.limit
        limits = [first, *(layer.limit for layer in network.layers)]
        for limit, layer in zip(limits, [*network.layers, network.head], strict=True):
            rows = np.abs(layer.weights.astype(np.int64)).reshape(len(layer.weights), -1)
            worst = rows.sum(1) * limit + np.abs(layer.biases.astype(np.int64))
            assert worst.max() <= LARGEST_SUM


def test_beyond_what_was_seen_there_is_headroom() -> None:
    policy = policy_of("vectors")
    observations = observations_for(policy, 300)
    network = quantised(policy, observations)
    wanted = InferencePolicy(policy)(2 * observations).dist_inputs.argmax(-1)
    assert (network(2 * observations).actions == wanted).mean() > 0.98


def test_a_normaliser_ends_where_it_clips() -> None:
    policy = policy_of("tanh")
    network = quantised(policy, observations_for(policy, 300))
    far = np.full((1, 4), 1e6, np.float32)
    wanted = InferencePolicy(policy)(far).dist_inputs
    np.testing.assert_allclose(
        network(far).scores, wanted - wanted.mean(-1, keepdims=True), atol=0.03
    )


def test_rows_that_are_no_numbers_do_not_calibrate() -> None:
    policy = policy_of("vectors")
    observations = observations_for(policy, 100)
    alone = quantised(policy, observations)
    with_others = quantised(policy, np.concatenate([extremes_for(policy)[2:5], observations]))
    for one, other in zip(alone.layers, with_others.layers, strict=True):
        np.testing.assert_array_equal(one.multipliers, other.multipliers)


def test_what_never_varies_and_what_is_never_reached_are_no_trouble() -> None:
    policy = policy_of("vectors")
    with torch.no_grad():
        policy.network.layers[0].weight[3] = 0.0
        policy.network.layers[0].bias[3] = -5.0
        policy.network.layers[1].weight.zero_()
        policy.network.layers[1].bias.fill_(-1.0)
    observations = np.zeros((10, 4), np.float32)
    answers = quantised(policy, observations)(observations)
    wanted = InferencePolicy(policy)(observations).dist_inputs
    assert answers.actions.tolist() == wanted.argmax(-1).tolist()


def test_more_bytes_than_32_bits_can_add_up_are_refused() -> None:
    spec = {
        "name": "bytes",
        "network": {"name": "mlp", "hidden": (1,)},
        "observation": {"shape": (70_000,), "dtype": "uint8"},
        "num_actions": 2,
    }
    policy = new_policy(PolicySpec.model_validate(spec), seed=0)
    with torch.no_grad():
        policy.network.layers[0].weight.fill_(1.0)
    with pytest.raises(MismatchError, match="70,000 bytes"):
        quantised(policy, np.zeros((2, 70_000), np.uint8))
