import dataclasses

import numpy as np
import pytest

from common.codec import decode, encode
from common.policies.inference import InferencePolicy, PolicyOutputs
from common.policies.policy import Policy
from common.trajectory import UNLABELLED, TrajectoryChunk
from learners.labeller import Labeller
from tests.builders import make_chunk, make_policy, observations_of


class Recorder:
    """A policy that keeps what it is asked."""

    def __init__(self, policy: Policy) -> None:
        self._policy = InferencePolicy(policy)
        self.spec = policy.spec
        self.asked: list[np.ndarray] = []

    def __call__(self, observations: np.ndarray) -> PolicyOutputs:
        self.asked.append(observations)
        return self._policy(observations)


def unlabelled(kind, **changes) -> TrajectoryChunk:
    """Return a chunk as the learner gets it, with rows that are not valid."""
    chunk = make_chunk(
        kind,
        num_steps=16,
        num_envs=5,
        teacher_version=UNLABELLED,
        teacher_dist_inputs=None,
        teacher_value=None,
        **changes,
    )
    assert 0 < chunk.num_transitions < chunk.valid.size
    return decode(encode(chunk))


def stored(chunk: TrajectoryChunk) -> np.ndarray:
    """Return the observations row by row, [T·N, *shape]."""
    stacks = observations_of(chunk)
    return stacks.reshape(-1, *stacks.shape[2:]).copy()


@pytest.mark.parametrize("kind", ["frames", "vectors"])
@pytest.mark.parametrize("dist", ["logits", "q_values"])
@pytest.mark.parametrize("has_value", [True, False])
def test_valid_rows_get_the_teachers_outputs_and_the_others_nothing(kind, dist, has_value):
    teacher = Recorder(make_policy(kind, seed=3, dist=dist, has_value=has_value))
    chunk = unlabelled(kind)
    labelled = Labeller(teacher, micro_batch_size=7).label(chunk)
    assert labelled.teacher_version == 0
    wanted = InferencePolicy(make_policy(kind, seed=3, dist=dist, has_value=has_value))(
        stored(chunk)
    )
    valid = chunk.valid.reshape(-1)
    labels = labelled.labels.reshape(valid.size, -1)
    logits = wanted.dist_inputs
    if dist == "logits":
        logits = logits - logits.max(-1, keepdims=True)
    assert labels.dtype == (np.float32 if dist == "q_values" else np.float16)
    np.testing.assert_allclose(labels[valid], logits[valid], rtol=1e-3, atol=1e-5)
    assert not labels[~valid].any()
    assert (labelled.teacher_value is not None) == has_value
    if labelled.teacher_value is not None and wanted.value is not None:
        value = labelled.teacher_value.reshape(-1)
        np.testing.assert_allclose(value[valid], wanted.value[valid], rtol=1e-4, atol=1e-5)
        assert not value[~valid].any()


@pytest.mark.parametrize("kind", ["frames", "vectors"])
def test_the_teacher_sees_valid_rows_only_and_no_more_than_a_micro_batch(kind):
    teacher = Recorder(make_policy(kind))
    chunk = unlabelled(kind)
    Labeller(teacher, micro_batch_size=9).label(chunk)
    sizes = [len(observations) for observations in teacher.asked]
    assert set(sizes[:-1]) == {9}
    assert 0 < sizes[-1] <= 9
    np.testing.assert_array_equal(
        np.concatenate(teacher.asked), stored(chunk)[chunk.valid.reshape(-1)]
    )


def test_nothing_else_of_the_chunk_changes():
    chunk = unlabelled("frames")
    labelled = Labeller(Recorder(make_policy("frames")), micro_batch_size=8).label(chunk)
    for field in dataclasses.fields(chunk):
        if not field.name.startswith("teacher_"):
            assert getattr(labelled, field.name) is getattr(chunk, field.name)


def test_a_chunk_that_has_labels_keeps_them():
    teacher = Recorder(make_policy())
    chunk = make_chunk()
    assert Labeller(teacher, micro_batch_size=8).label(chunk) is chunk
    assert teacher.asked == []


def test_a_chunk_without_a_valid_row_asks_nobody():
    teacher = Recorder(make_policy())
    chunk = dataclasses.replace(unlabelled("vectors"), valid=np.zeros((16, 5), np.bool_))
    labelled = Labeller(teacher, micro_batch_size=8).label(chunk)
    assert teacher.asked == []
    assert labelled.labels.shape == (16, 5, 3)
