import math
from typing import Any

import numpy as np
import pytest

from common.policies.actions import (
    draw_actions,
    empty_actions,
    mean_actions,
    mean_and_log_std,
    random_actions,
)
from common.policies.box import BoxActions
from tests.acting import log_probabilities
from tests.builders import make_spec

BOX = BoxActions(low=(-2.0, 0.0), high=(2.0, 10.0))
OUTPUTS = np.array([[0.3, -1.4, math.log(0.5), math.log(2.0)]], np.float32)
"""Mean and log σ of two entries."""


def spec_of(dist: str) -> Any:
    return make_spec(num_actions=None, action_box=BOX, dist=dist)


def draw(dist: str, outputs: np.ndarray, count: int = 1, seed: int = 0, **how: Any) -> Any:
    how = {"mode": "greedy", "epsilon": 0.0} | how
    rng = np.random.default_rng(seed)
    return draw_actions(spec_of(dist), np.repeat(outputs, count, axis=0), rng=rng, **how)


def normal_density(x: float, mean: float, std: float) -> float:
    return math.exp(-0.5 * ((x - mean) / std) ** 2) / (std * math.sqrt(2 * math.pi))


def slow_density(dist: str, action: np.ndarray, outputs: np.ndarray, epsilon: float) -> float:
    """Return the density of one action in units, an entry at a time."""
    own = 1.0
    for a, mean, log_std in zip(action.tolist(), *np.split(outputs, 2), strict=True):
        if dist == "squashed_gaussian":
            own *= normal_density(math.atanh(a), mean, math.exp(log_std)) / (1 - a**2)
        else:
            own *= normal_density(a, mean, math.exp(log_std))
    uniform = 0.25 if (np.abs(action) <= 1).all() else 0.0
    return (1 - epsilon) * own + epsilon * uniform


@pytest.mark.parametrize("dist", ["gaussian", "squashed_gaussian"])
@pytest.mark.parametrize("epsilon", [0.0, 0.3])
def test_log_probabilities_are_those_of_what_was_drawn(dist, epsilon):
    actions, log_probs = draw(dist, OUTPUTS, 200, mode="sample", epsilon=epsilon)
    wanted = [math.log(slow_density(dist, action, OUTPUTS[0], epsilon)) for action in actions]
    np.testing.assert_allclose(log_probs, wanted, rtol=2e-3, atol=2e-3)
    assert (actions.dtype, log_probs.dtype) == (np.float32, np.float32)


def test_a_gaussian_is_drawn_as_it_is_and_not_clipped():
    actions, _ = draw("gaussian", OUTPUTS, 20_000, mode="sample")
    np.testing.assert_allclose(actions.mean(0), [0.3, -1.4], atol=0.04)
    np.testing.assert_allclose(actions.std(0), [0.5, 2.0], rtol=0.03)
    assert (np.abs(actions) > 1).any()


def test_a_squashed_gaussian_stays_within_the_bounds():
    actions, log_probs = draw("squashed_gaussian", OUTPUTS * 5, 20_000, mode="sample")
    assert (np.abs(actions) <= 1).all()
    assert (actions == -1).any()  # rounded to the bound, where 1 − a² has no logarithm
    assert np.isfinite(log_probs).all()


@pytest.mark.parametrize(
    ("dist", "outputs", "wanted"),
    [
        ("gaussian", OUTPUTS, [0.3, -1.0]),
        ("squashed_gaussian", OUTPUTS, np.tanh([0.3, -1.4])),
        ("deterministic", OUTPUTS[:, :2], np.tanh([0.3, -1.4])),
    ],
)
def test_greedy_takes_the_mean_within_the_bounds(dist, outputs, wanted):
    actions, log_probs = draw(dist, outputs, 3)
    np.testing.assert_allclose(actions, [wanted] * 3, rtol=1e-6)
    np.testing.assert_array_equal(mean_actions(dist, outputs), actions[:1])
    np.testing.assert_array_equal(log_probs, 0.0)


def test_a_deterministic_policy_has_nothing_to_sample():
    sampled = draw("deterministic", OUTPUTS[:, :2], 3, mode="sample")
    np.testing.assert_array_equal(sampled.actions, draw("deterministic", OUTPUTS[:, :2], 3).actions)


@pytest.mark.parametrize(("dist", "width"), [("gaussian", 4), ("deterministic", 2)])
def test_noise_is_around_the_mean_action(dist, width):
    outputs = OUTPUTS[:, :width]
    actions, log_probs = draw(dist, outputs, 20_000, noise=0.1)
    center = mean_actions(dist, outputs)[0]
    np.testing.assert_allclose(actions.mean(0), center, atol=0.005)
    np.testing.assert_allclose(actions.std(0), 0.1, rtol=0.03)
    each = zip(actions[0], center, strict=True)
    wanted = [sum(math.log(normal_density(a, c, 0.1)) for a, c in each)]
    np.testing.assert_allclose(log_probs[:1], wanted, rtol=1e-3)


def test_a_share_of_the_actions_is_uniform():
    actions, log_probs = draw("gaussian", OUTPUTS, 20_000, epsilon=0.25)
    random = (actions != mean_actions("gaussian", OUTPUTS)).any(-1)
    assert random.mean() == pytest.approx(0.25, abs=0.01)
    assert (np.abs(actions[random]) <= 1).all()
    np.testing.assert_allclose(actions[random].mean(0), 0.0, atol=0.03)
    np.testing.assert_allclose(actions[random].std(0), 1 / math.sqrt(3), rtol=0.03)
    np.testing.assert_allclose(log_probs[random], math.log(0.25 / 4), rtol=1e-5)
    np.testing.assert_allclose(log_probs[~random], math.log(0.75), rtol=1e-5)


def test_log_std_is_clamped_as_sac_does():
    outputs = np.array([[0.0, -30.0], [0.0, 5.0]], np.float32)
    mean, log_std = mean_and_log_std("squashed_gaussian", outputs)
    np.testing.assert_array_equal(log_std, [[-20.0], [2.0]])
    np.testing.assert_array_equal(mean, 0.0)


def test_a_seed_gives_the_draw():
    first, again = (draw("gaussian", OUTPUTS, 9, mode="sample", epsilon=0.5) for _ in range(2))
    np.testing.assert_array_equal(first.actions, again.actions)
    other = draw("gaussian", OUTPUTS, 9, seed=1, mode="sample", epsilon=0.5)
    assert (first.actions != other.actions).any()


LOGITS = np.array([[0.0, 1.0, -1.0], [3.0, 3.0, -2e4], [-5.0, 0.5, 2.0]], np.float32)
"""In the second row two actions are as good, and the third has no probability in float32."""
COUNT = 20_000


def draw_discrete(dist: str, outputs: np.ndarray, **how: Any) -> Any:
    """Draw `COUNT` times from every row; actions and log-probabilities are [rows, COUNT]."""
    rng = np.random.default_rng(0)
    rows = np.repeat(outputs, COUNT, axis=0)
    rows.flags.writeable = False
    drawn = draw_actions(make_spec(dist=dist), rows, rng=rng, **how)
    return drawn.actions.reshape(-1, COUNT), drawn.log_probs.reshape(-1, COUNT)


@pytest.mark.parametrize("dist", ["logits", "q_values"])
@pytest.mark.parametrize("mode", ["greedy", "sample"])
@pytest.mark.parametrize("epsilon", [0.0, 0.05, 1.0])
def test_discrete_actions_are_drawn_with_their_shares(dist, mode, epsilon):
    actions, log_probs = draw_discrete(dist, LOGITS, mode=mode, epsilon=epsilon)
    wanted = log_probabilities(LOGITS, dist, epsilon=epsilon, mode=mode)
    assert (actions.dtype, log_probs.dtype) == (np.int64, np.float32)
    for row in range(len(LOGITS)):
        shares = np.bincount(actions[row], minlength=3) / COUNT
        np.testing.assert_allclose(shares, np.exp(wanted[row]), atol=0.015)
        assert (shares[np.isneginf(wanted[row])] == 0).all()
        np.testing.assert_allclose(log_probs[row], wanted[row, actions[row]], rtol=1e-5, atol=1e-6)


def test_greedy_acting_takes_the_first_largest():
    actions, log_probs = draw_discrete("logits", LOGITS, mode="greedy", epsilon=0.0)
    np.testing.assert_array_equal(actions, np.repeat([[1], [0], [2]], COUNT, axis=1))
    np.testing.assert_array_equal(log_probs, 0.0)


def test_a_random_action_that_is_the_greedy_one_counts_as_that():
    actions, log_probs = draw_discrete("q_values", LOGITS[:1], mode="greedy", epsilon=0.3)
    greedy = actions[0] == 1
    np.testing.assert_array_equal(log_probs[0, greedy], np.float32(math.log(0.7 + 0.1)))
    np.testing.assert_array_equal(log_probs[0, ~greedy], np.float32(math.log(0.3 / 3)))
    assert greedy.mean() == pytest.approx(0.8, abs=0.01)


def test_random_actions_are_of_the_space():
    rng = np.random.default_rng(0)
    numbers = random_actions(num_actions=4, box=None, count=1_000, rng=rng)
    assert np.unique(numbers).tolist() == [0, 1, 2, 3]
    vectors = random_actions(num_actions=None, box=BOX, count=1_000, rng=rng)
    assert (vectors.shape, vectors.dtype) == ((1_000, 2), np.float32)
    assert -1 <= vectors.min() < -0.98 < 0.98 < vectors.max() <= 1


def test_room_for_actions_has_their_shape_and_type():
    numbers, vectors = empty_actions(None, 5, 3), empty_actions(BOX, 5, 3)
    assert (numbers.shape, numbers.dtype) == ((5, 3), np.int64)
    assert (vectors.shape, vectors.dtype) == ((5, 3, 2), np.float32)
