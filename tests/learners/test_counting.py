"""Chunks are counted once, and what was overtaken is known by size."""

import json

import pytest

from common.trajectory import ChunkId, Life, TrajectoryChunk
from learners.counting import LifeCount, ReceivedChunks
from tests.builders import make_chunk


def made(number: int, runner: int = 0, incarnation: int = 0) -> list[TrajectoryChunk]:
    """Return the first chunks of a life."""
    chunks: list[TrajectoryChunk] = []
    for sequence in range(number):
        before = chunks[-1].steps_before + chunks[-1].num_transitions if chunks else 0
        chunks.append(
            make_chunk(
                sequence=sequence,
                chunk_id=ChunkId(runner, incarnation, sequence),
                steps_before=before,
            )
        )
    return chunks


def sizes(*chunks: TrajectoryChunk) -> list[int]:
    return [chunk.num_transitions for chunk in chunks]


def missing(received: ReceivedChunks) -> int:
    (found,) = received.lives().values()
    return found.missing


def test_chunks_are_counted_once_in_any_order():
    chunks, received = made(5), ReceivedChunks()
    order = [chunks[place] for place in (0, 2, 1, 2, 0, 4, 3, 4, 3)]
    counted = [received.count(chunk) for chunk in order]
    assert [count > 0 for count in counted] == [True] * 3 + [False] * 2 + [True] * 2 + [False] * 2
    total = sum(sizes(*chunks))
    assert sum(counted) == total
    assert received.lives() == {Life(0, 0): LifeCount(total, 0)}


def test_a_chunk_that_was_just_overtaken_is_under_way_and_then_missing():
    chunks, received = made(5), ReceivedChunks()
    seen = []
    for place in (0, 2, 3, 4):
        received.count(chunks[place])
        seen.append(missing(received))
    size = chunks[1].num_transitions
    assert seen == [0, 0, size, size]
    assert received.count(chunks[1]) == size
    assert missing(received) == 0


@pytest.mark.parametrize("late", [1, 3, 5])
def test_what_is_left_of_a_gap_is_missing(late: int):
    chunks, received = made(9), ReceivedChunks()
    for place in (0, 6, 7, 8):
        received.count(chunks[place])
    assert missing(received) == sum(sizes(*chunks[1:6]))
    received.count(chunks[late])
    assert missing(received) == sum(sizes(*chunks[1:6])) - chunks[late].num_transitions
    for chunk in chunks:
        received.count(chunk)
    assert received.lives() == {Life(0, 0): LifeCount(sum(sizes(*chunks)), 0)}


def test_lives_are_counted_apart():
    received = ReceivedChunks()
    lives = [Life(0, 0), Life(0, 1), Life(1, 0)]
    for life in lives:
        for chunk in made(2, *life):
            assert received.count(chunk) == chunk.num_transitions
    assert set(received.lives()) == set(lives)


def test_what_was_received_travels_through_a_checkpoint():
    chunks, received = made(7), ReceivedChunks()
    for place in (0, 3, 4, 6):
        received.count(chunks[place])
    state = json.loads(json.dumps(received.state()))
    restored = ReceivedChunks()
    restored.load_state(state)
    assert restored.lives() == received.lives()
    counted = [restored.count(chunk) for chunk in chunks]
    assert counted == [0, *sizes(*chunks[1:3]), 0, 0, *sizes(chunks[5]), 0]
