import numpy as np
import pytest

from common.labels import LOWEST_LOGIT, LabelArrays
from common.policies.inference import PolicyOutputs
from tests.builders import make_spec

LOGITS = np.array([[0.5, 3.0, -1.0], [100.25, 100.0, -4e6], [0.0, 0.0, 0.0]], np.float32)


def outputs(dist_inputs: np.ndarray, value: np.ndarray | None = None) -> PolicyOutputs:
    return PolicyOutputs(dist_inputs, value)


def test_logits_are_float16_with_their_maximum_shifted_to_0():
    labels = LabelArrays((3,), make_spec())
    labels.write(np.arange(3), outputs(LOGITS))
    wanted = [[-2.5, 0.0, -4.0], [0.0, -0.25, np.float16(LOWEST_LOGIT)], [0.0, 0.0, 0.0]]
    assert labels.dist_inputs.dtype == np.float16
    np.testing.assert_array_equal(labels.dist_inputs, np.array(wanted, np.float16))


def test_q_values_are_float32_and_keep_their_level():
    labels = LabelArrays((3,), make_spec(dist="q_values"))
    labels.write(np.arange(3), outputs(LOGITS))
    assert labels.dist_inputs.dtype == np.float32
    np.testing.assert_array_equal(labels.dist_inputs, LOGITS)


@pytest.mark.parametrize("has_value", [True, False])
def test_values_are_kept_where_the_teacher_has_them(has_value):
    labels = LabelArrays((2, 3), make_spec(has_value=has_value))
    value = np.array([1.5, -2.0, 0.25], np.float32)
    labels.write(1, outputs(LOGITS, value if has_value else None))
    assert labels.dist_inputs.shape == (2, 3, 3)
    if not has_value:
        assert labels.value is None
        return
    assert labels.value is not None
    np.testing.assert_array_equal(labels.value, [[0.0, 0.0, 0.0], value])


def test_rows_that_are_not_written_are_zero():
    labels = LabelArrays((4,), make_spec(dist="q_values", has_value=True))
    labels.write(np.array([3, 1]), outputs(LOGITS[:2], np.ones(2, np.float32)))
    assert labels.value is not None
    np.testing.assert_array_equal(labels.dist_inputs[[3, 1]], LOGITS[:2])
    np.testing.assert_array_equal(labels.value, [0, 1, 0, 1])
    assert not labels.dist_inputs[[0, 2]].any()


def test_the_outputs_given_are_not_written_to():
    logits = LOGITS.copy()
    logits.flags.writeable = False
    LabelArrays((3,), make_spec()).write(np.arange(3), outputs(logits))
    np.testing.assert_array_equal(logits, LOGITS)


@pytest.mark.parametrize(("dist", "width"), [("squashed_gaussian", 4), ("deterministic", 2)])
def test_labels_for_a_box_are_float32_as_they_are(dist, width):
    box = {"low": (-1.0, -1.0), "high": (1.0, 1.0)}
    labels = LabelArrays((3,), make_spec(num_actions=None, action_box=box, dist=dist))
    given = np.random.default_rng(0).normal(size=(3, width)).astype(np.float32) * 100
    labels.write(np.arange(3), outputs(given))
    assert labels.dist_inputs.dtype == np.float32
    np.testing.assert_array_equal(labels.dist_inputs, given)
