"""Who reads which chunks, in which order, and under which ids."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.dataset_runner import DatasetRunner
from common.dataset import open_dataset
from common.trajectory import ChunkId, TrajectoryChunk
from common.weights import weights_of
from tests.builders import ROWS, make_policy
from tests.datasets import make_chunks, write_dataset

NUM_CHUNKS = 8
TRAINING = [0, 1, 2, 3, 5, 6, 7]
"""Chunk 4 is held out."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_dataset(tmp_path, NUM_CHUNKS)
    return tmp_path


def runner(folder: Path, runner_id: int = 0, num_runners: int = 1, **changes: Any) -> DatasetRunner:
    options: dict[str, Any] = {"incarnation": 2, "seed": 0} | changes
    dataset = open_dataset(folder)
    return DatasetRunner(dataset, TRAINING, runner_id=runner_id, num_runners=num_runners, **options)


def number_of(chunk: TrajectoryChunk) -> int:
    """Return which of the written chunks it is."""
    return int(chunk.rewards[0, 0]) // ROWS


def numbers(reader: DatasetRunner, count: int) -> list[int]:
    return [number_of(reader.sample()) for _ in range(count)]


def test_every_pass_has_every_chunk_once_in_an_order_of_its_own(folder: Path) -> None:
    reader = runner(folder)
    passes = [numbers(reader, len(TRAINING)) for _ in range(3)]
    for found in passes:
        assert sorted(found) == TRAINING
    assert len({tuple(found) for found in passes}) == 3


def test_the_seed_makes_the_order(folder: Path) -> None:
    wanted = numbers(runner(folder, seed=3), 14)
    assert numbers(runner(folder, seed=3), 14) == wanted
    assert numbers(runner(folder, seed=4), 14) != wanted


def test_several_share_the_chunks(folder: Path) -> None:
    shares = [numbers(runner(folder, index, 3), 2 + (index == 0)) for index in range(3)]
    assert sorted(number for share in shares for number in share) == TRAINING
    further = numbers(runner(folder, 3, 3), 3)  # one that was added has the first one's share
    assert sorted(further) == sorted(shares[0])


def test_a_resumed_run_goes_on_in_its_pass(folder: Path) -> None:
    whole = numbers(runner(folder), 14)
    each = sum(chunk.num_transitions for chunk in make_chunks(NUM_CHUNKS)) / NUM_CHUNKS
    for done in (0, 3, 6, 7, 10):
        start = int((done + 0.5) * each)
        resumed = runner(folder, start_env_steps=start)
        assert numbers(resumed, 14 - done) == whole[done:]


def test_chunks_have_ids_and_counts_of_the_reader(folder: Path) -> None:
    reader, written = runner(folder, 5), make_chunks(NUM_CHUNKS)
    steps = 0
    for sequence in range(10):
        chunk = reader.sample()
        assert chunk.chunk_id == ChunkId(5, 2, sequence)
        assert chunk.steps_before == steps
        steps += chunk.num_transitions
        assert reader.env_steps == steps
        given = written[number_of(chunk)]
        np.testing.assert_array_equal(chunk.teacher_dist_inputs, given.teacher_dist_inputs)
        np.testing.assert_array_equal(chunk.actions, given.actions)


def test_weights_are_only_counted_and_no_episode_is_played(folder: Path) -> None:
    reader = runner(folder)
    network = make_policy().network
    reader.set_weights(weights_of(network, version=7, learner_steps=0, env_steps=0))
    reader.sample()
    assert reader.policy_version == 7
    assert reader.drain_episodes() == []
    reader.close()
