import numpy as np
import pytest

from common.policies.inference import InferencePolicy
from common.policies.policy import Policy, policy_from_bytes, policy_to_bytes
from common.policies.refreshable import RefreshablePolicy
from common.weights import WeightStore
from tests.builders import VECTOR, make_policy

OBSERVATIONS = np.random.default_rng(0).normal(size=(6, VECTOR)).astype(np.float32)


def version(number: int) -> Policy:
    """Return a teacher that differs from all other versions."""
    return make_policy(seed=number, has_value=True, teacher_version=number)


def test_every_answer_is_of_one_version_and_says_which() -> None:
    teacher = RefreshablePolicy(version(0), InferencePolicy)
    for number in (0, 2, 3):
        assert teacher.take(version(number)) == (number > 0)
        said, wanted = teacher(OBSERVATIONS), InferencePolicy(version(number))(OBSERVATIONS)
        np.testing.assert_array_equal(said.dist_inputs, wanted.dist_inputs)
        assert said.value is not None
        assert said.version == teacher.version == number
        assert wanted.version == 0  # a policy that never changes has one version


@pytest.mark.parametrize("number", [1, 2])
def test_a_version_that_is_not_newer_is_refused(number: int) -> None:
    teacher = RefreshablePolicy(version(2), InferencePolicy)
    before = teacher(OBSERVATIONS).dist_inputs
    assert not teacher.take(version(number))
    np.testing.assert_array_equal(teacher(OBSERVATIONS).dist_inputs, before)


def test_the_version_travels_with_the_policy() -> None:
    back = policy_from_bytes(*policy_to_bytes(version(5)))
    assert back.spec.teacher_version == 5


def test_the_store_hands_out_newer_versions_only() -> None:
    store = WeightStore()
    assert store.teacher_if_newer(-1) is None
    newer = version(2)
    assert store.publish_teacher(newer)
    assert not store.publish_teacher(version(1))
    assert not store.publish_teacher(version(2))
    assert store.teacher_if_newer(1) is newer
    assert store.teacher_if_newer(2) is None
