import numpy as np

from common.policies.inference import InferencePolicy
from common.policies.remembering import RememberingPolicy
from tests.builders import VECTOR, make_policy

NETWORK = {"name": "lstm", "hidden": 4, "torso": {"name": "mlp", "hidden": (8,)}}
RNG = np.random.default_rng(0)
SEEN = RNG.normal(size=(6, 3, VECTOR)).astype(np.float32)
"""Six observations of each of three copies."""


def player() -> RememberingPolicy:
    return RememberingPolicy(InferencePolicy(make_policy(network=NETWORK)), 3)


def alone(observations: np.ndarray) -> np.ndarray:
    """Return what a copy that sees these observations says in the end, from nothing."""
    policy, memory = InferencePolicy(make_policy(network=NETWORK)), np.zeros((1, 2, 4), np.float32)
    for observation in observations:
        outputs, memory = policy.remember(observation[None], memory)
    return outputs.dist_inputs[0]


def test_every_copy_is_played_by_its_own_history():
    together = player()
    for observations in SEEN:
        outputs = together(observations)
    for copy in range(3):
        np.testing.assert_allclose(outputs.dist_inputs[copy], alone(SEEN[:, copy]), rtol=1e-4)


def test_copies_that_are_not_asked_about_keep_what_they_remember():
    some = player()
    some(SEEN[0])
    some(SEEN[1][[2, 0]], np.array([2, 0]))
    outputs = some(SEEN[2])
    assert_last(outputs.dist_inputs[0], SEEN[:3, 0])
    assert_last(outputs.dist_inputs[1], SEEN[[0, 2], 1])
    assert_last(outputs.dist_inputs[2], SEEN[:3, 2])


def test_a_copy_whose_episode_starts_forgets():
    for forgotten in (np.array([1]), np.array([False, True, False])):
        some = player()
        some(SEEN[0])
        some.forget(forgotten)
        outputs = some(SEEN[1])
        assert_last(outputs.dist_inputs[0], SEEN[:2, 0])
        assert_last(outputs.dist_inputs[1], SEEN[1:2, 1])


def test_a_policy_without_a_memory_is_asked_as_it_is():
    plain = InferencePolicy(make_policy())
    some = RememberingPolicy(plain, 3)
    for observations in SEEN:
        np.testing.assert_array_equal(
            some(observations[1:], np.array([1, 2])).dist_inputs,
            plain(observations[1:]).dist_inputs,
        )
    some.forget(np.array([0]))


def assert_last(found: np.ndarray, observations: np.ndarray) -> None:
    np.testing.assert_allclose(found, alone(observations), rtol=1e-4, atol=1e-6)
