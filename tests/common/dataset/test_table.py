"""Chunks as rows, and back; and what other programs see of them."""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common.dataset.table import METADATA, from_table, to_table
from common.frames import FrameObservations
from common.trajectory import UNLABELLED, TrajectoryChunk, VectorObservations
from tests.builders import make_chunk
from tests.common.test_codec import arrays_of, scalars_of

KINDS = ["frames", "vectors"]


def through_parquet(table: pa.Table) -> pa.Table:
    """Return the table as it comes back from a file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return pq.read_table(pa.BufferReader(sink.getvalue()))


def assert_same(found: TrajectoryChunk, given: TrajectoryChunk) -> None:
    assert scalars_of(found) == scalars_of(given)
    assert type(found.observations) is type(given.observations)
    expected, came = arrays_of(given), arrays_of(found)
    assert came.keys() == expected.keys()
    for name, array in expected.items():
        assert came[name].dtype == array.dtype, name
        np.testing.assert_array_equal(came[name], array, err_msg=name)
    if isinstance(given.observations, FrameObservations):
        assert isinstance(found.observations, FrameObservations)
        assert found.observations.stack == given.observations.stack


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("has_value", [True, False])
@pytest.mark.parametrize("dist", ["logits", "q_values"])
@pytest.mark.parametrize(("num_steps", "num_envs"), [(8, 3), (1, 5), (40, 1)])
def test_a_chunk_comes_back_as_it_was(kind, has_value, dist, num_steps, num_envs):
    size = {"num_steps": num_steps, "num_envs": num_envs}
    chunk = make_chunk(kind, sequence=7, has_value=has_value, dist=dist, **size)
    table = through_parquet(to_table(chunk, first_sequence=20))
    assert_same(from_table(table, task_id="toy"), chunk)


def test_rows_are_an_env_copys_steps_in_their_order():
    chunk = make_chunk("vectors", num_steps=8, num_envs=3)
    assert isinstance(chunk.observations, VectorObservations)
    rows = to_table(chunk, first_sequence=20).to_pandas()
    assert rows["sequence"].tolist() == [20] * 8 + [21] * 8 + [22] * 8
    assert rows["step"].tolist() == [*range(8)] * 3
    for (env, step), row in rows.set_index(["env_copy", "step"]).iterrows():
        assert row["reward"] == chunk.rewards[step, env]
        assert row["valid"] == chunk.valid[step, env]
        np.testing.assert_array_equal(row["observation"], chunk.observations.values[step, env])
        assert row["acting_policy"] == ("teacher", "student")[chunk.acting_policy[step, env]]
        np.testing.assert_array_equal(
            row["teacher_dist_inputs"], chunk.teacher_dist_inputs[step, env].astype(np.float32)
        )


def test_stacks_can_be_put_together_from_the_frames_of_rows():
    """By the rule that the module tells, without any of this program."""
    chunk = make_chunk("frames", num_steps=12, num_envs=2, end_share=0.3)
    assert isinstance(chunk.observations, FrameObservations)
    wanted = chunk.observations.stacks()
    stack = chunk.observations.stack
    for env, rows in through_parquet(to_table(chunk)).to_pandas().groupby("env_copy"):
        planes = []
        for _, row in rows.sort_values("step").iterrows():
            planes += [np.frombuffer(plane, np.uint8) for plane in row["frames"]]
            found = np.stack(planes[-stack:]).reshape(wanted.shape[2:])
            np.testing.assert_array_equal(found, wanted[row["step"], env])


def test_actions_may_be_vectors():
    actions = np.random.default_rng(0).normal(size=(8, 3, 2)).astype(np.float32)
    chunk = dataclasses.replace(make_chunk("vectors", num_steps=8, num_envs=3), actions=actions)
    table = through_parquet(to_table(chunk))
    assert table.schema.field("action").type.list_size == 2
    assert_same(from_table(table, task_id="toy"), chunk)
    column = table["action"].combine_chunks()
    by_copy = column.flatten().to_numpy().reshape(3, 8, 2)
    np.testing.assert_array_equal(by_copy.swapaxes(0, 1), actions)


def test_a_chunk_without_labels_is_no_row():
    chunk = dataclasses.replace(
        make_chunk(), teacher_version=UNLABELLED, teacher_dist_inputs=None, teacher_value=None
    )
    with pytest.raises(ValueError, match="no labels"):
        to_table(chunk)


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {METADATA: b'{"format": "stillhouse/dataset", "version": 2}'},
        {METADATA: b'{"format": "other", "version": 1}'},
    ],
)
def test_other_tables_are_refused(metadata):
    table = to_table(make_chunk()).replace_schema_metadata(metadata)
    with pytest.raises((LookupError, ValueError, TypeError)):
        from_table(table, task_id="toy")


def test_rows_that_are_missing_are_noticed():
    table = to_table(make_chunk(num_steps=8, num_envs=3))
    for rows in (table.slice(0, 23), table.slice(1), table.slice(4, 16)):
        with pytest.raises(ValueError, match="rows"):
            from_table(rows, task_id="toy")
