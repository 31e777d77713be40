import dataclasses

import numpy as np
import pytest

from common.trajectory import UNLABELLED, ChunkId
from tests.builders import make_chunk

STEP_ARRAYS = (
    "rewards",
    "terminated",
    "truncated",
    "valid",
    "acting_policy",
    "behavior_log_prob",
    "teacher_dist_inputs",
    "teacher_value",
)


@pytest.mark.parametrize("name", STEP_ARRAYS)
def test_an_array_of_another_shape_is_refused_by_name(name: str):
    chunk = make_chunk()
    with pytest.raises(ValueError, match=f"{name} has shape"):
        dataclasses.replace(chunk, **{name: getattr(chunk, name)[:-1]})


@pytest.mark.parametrize("kind", ["frames", "vectors"])
def test_observations_of_other_steps_are_refused(kind):
    longer = make_chunk(kind, num_steps=9)
    with pytest.raises(ValueError, match=r"observations of \(9, 3\) steps != \(8, 3\)"):
        dataclasses.replace(make_chunk(kind), observations=longer.observations)


def test_every_checked_array_is_one_of_the_chunk():
    names = {field.name for field in dataclasses.fields(make_chunk())}
    others = {"chunk_id", "task_id", "steps_before", "policy_version", "teacher_version"}
    assert names - others == {*STEP_ARRAYS, "observations", "actions"}


def test_transitions_are_the_valid_rows():
    valid = np.ones((4, 2), np.bool_)
    valid[1, 0] = valid[3, 1] = False
    assert make_chunk(num_steps=4, num_envs=2, valid=valid).num_transitions == 6


def test_a_teacher_without_a_value_head_gives_none():
    assert make_chunk(has_value=False).teacher_value is None


UNLABELLED_FIELDS = {
    "teacher_version": UNLABELLED,
    "teacher_dist_inputs": None,
    "teacher_value": None,
}


def test_a_chunk_may_come_without_labels_and_says_so():
    chunk = make_chunk(sequence=5, **UNLABELLED_FIELDS)
    with pytest.raises(ValueError, match=r"chunk \(0, 0, 5\) has no labels"):
        _ = chunk.labels
    labelled = make_chunk()
    assert labelled.labels is labelled.teacher_dist_inputs


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher_version": UNLABELLED}, "teacher_version = -1 of a chunk with labels"),
        (UNLABELLED_FIELDS | {"teacher_version": 0}, "= 0 of a chunk without labels"),
        (UNLABELLED_FIELDS | {"teacher_value": np.zeros((8, 3))}, "teacher_value has shape"),
    ],
)
def test_labels_and_their_version_go_together(changes, message):
    with pytest.raises(ValueError, match=message):
        make_chunk(**changes)


def test_rows_of_vectors_are_taken_by_number():
    observations = make_chunk().observations
    rows = np.array([5, 0, 23, 5])
    taken = observations.take(rows)
    np.testing.assert_array_equal(taken, observations.values[rows // 3, rows % 3])
    assert taken.flags.writeable
    assert not np.shares_memory(taken, observations.values)


def test_chunks_are_the_same_by_id():
    assert ChunkId(1, 2, 3) == ChunkId(runner=1, incarnation=2, sequence=3)
    assert len({ChunkId(0, 0, 0), ChunkId(0, 1, 0), ChunkId(1, 0, 0), ChunkId(0, 0, 0)}) == 3


@pytest.mark.parametrize(
    "actions",
    [np.zeros((8, 3)), np.zeros((8, 3), np.float32), np.zeros((8, 3, 2), np.int32)],
    ids=["float64", "float32 without entries", "int32 with entries"],
)
def test_actions_are_numbers_or_vectors(actions):
    with pytest.raises(ValueError, match=r"not int32 \[T, N\] or float32 \[T, N, D\]"):
        make_chunk(actions=actions)
    assert make_chunk(actions=np.zeros((8, 3, 2), np.float32)).num_transitions > 0
